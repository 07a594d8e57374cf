//! The binary: parses, runs, exits. Everything else is in the library.

/// Plans and reconciles are made of very many small values, which this allocator keeps close together.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    fleetform::cli::main()
}
