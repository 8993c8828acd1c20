//! Installs the crypto provider, parses the command line, hands over.

use std::process::ExitCode;

/// Loading a large folder is mostly allocation, on every processor at once: docs/decisions/0045.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Named here once, so that no dependency's features can leave the process default open.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    claimbound::cli::run(claimbound::cli::parse())
}
