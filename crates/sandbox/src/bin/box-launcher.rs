//! The launcher alone, for this crate's tests.

fn main() -> std::process::ExitCode {
    aedile_sandbox::launcher_main()
}
