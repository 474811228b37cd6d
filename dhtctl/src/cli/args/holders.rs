//! Arguments of commands about who holds what.

use clap::Args;

/// Show where a key is and why: who holds it, how each copy stands, what the ring is doing about it
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl explain greeting
  dhtctl explain greeting -o json | jq -r .sentence")]
pub(crate) struct Explain {
    /// The key to explain; it need not exist
    pub(crate) key: String,
    /// KEY is base64
    #[arg(long)]
    pub(crate) key_b64: bool,
}
