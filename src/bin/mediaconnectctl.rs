//! The operator's tool.

fn main() -> std::process::ExitCode {
    mediaconnect::cli::main()
}
