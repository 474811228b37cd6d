//! Arguments of commands about who holds what.

use clap::Args;

use super::Within;

/// Show who owns a key, and the way a lookup takes
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl lookup greeting
  dhtctl lookup --id 0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33")]
pub(crate) struct Lookup {
    /// The key to look up
    #[arg(required_unless_present = "id", conflicts_with = "id")]
    pub(crate) key: Option<String>,
    /// KEY is base64
    #[arg(long, requires = "key")]
    pub(crate) key_b64: bool,
    /// Look up this identifier: 40 hex digits
    #[arg(long, value_name = "HEX")]
    pub(crate) id: Option<String>,
}

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
    #[command(flatten)]
    pub(crate) within: Within,
}

/// Start again, from what is left, what has lost most of its peers for good
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl recover --dead 1f4c4f56,cc233d0a,8b83c46e --dry-run
  dhtctl recover --dead 1f4c4f56,cc233d0a,8b83c46e")]
#[command(after_help = "\
Slots that have lost most of their electors serve nobody, since who is silent may be cut off, and serve. If you\n\
know that peers are lost for good, give them up: they can never come back with the data that they have. Everyone\n\
else must run and answer. Each slot goes on with the longest copy that is left; what may be missing is printed.\n\
Make sure that whoever you give up does not run.")]
pub(crate) struct Recover {
    /// The ids of the peers that are lost for good, or their first 8 digits
    #[arg(long, required = true, value_name = "ID", value_delimiter = ',')]
    pub(crate) dead: Vec<String>,
    /// Only show what would be done
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,
}
