//! Looks at the pictures and the sound of one flow for the daemon.

fn main() -> std::process::ExitCode {
    mediaconnect::content::helper::main()
}
