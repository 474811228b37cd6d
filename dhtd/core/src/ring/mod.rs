//! The identifier circle: identifiers, intervals, slots.

mod id;
mod interval;
mod slot;

pub use id::{Id, ParseIdError, PeerId};
pub use interval::{between, covers};
pub use slot::{Slot, SlotBits, SlotBitsError};
