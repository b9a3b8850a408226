//! The launcher of boxes alone, for this crate's tests: a test program cannot be its own launcher.

fn main() -> std::process::ExitCode {
    aedile_sandbox::launcher_main()
}
