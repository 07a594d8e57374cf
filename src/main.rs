//! The binary: parses, runs, exits. Everything else is in the library.

fn main() -> std::process::ExitCode {
    fleetform::cli::main()
}
