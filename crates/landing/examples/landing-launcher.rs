//! The launcher of boxes, for this crate's tests and measurements.

fn main() -> std::process::ExitCode {
    aedile_sandbox::launcher_main()
}
