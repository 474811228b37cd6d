//! Slots: the unit of placement, transfer, repair and consensus.

use std::fmt;

use thiserror::Error;

use super::Id;

/// One of the 2^b equal intervals of the circle; a key's slot is the top b bits of its identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u32);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// b: how finely the circle is divided; fixed when a ring is founded. In 1..=20.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SlotBits(u8);

/// The number of slot bits is out of range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("slot bits must lie in 1..=20, not {0}")]
pub struct SlotBitsError(u32);

impl SlotBits {
    /// Good to about 100 peers (DESIGN, section 2).
    pub const DEFAULT: Self = Self(10);

    /// Checks the number of bits.
    ///
    /// # Errors
    /// If it is not in 1..=20.
    pub fn new(bits: u32) -> Result<Self, SlotBitsError> {
        match u8::try_from(bits) {
            Ok(b) if (1..=20).contains(&b) => Ok(Self(b)),
            _ => Err(SlotBitsError(bits)),
        }
    }

    /// b.
    #[must_use]
    pub fn bits(self) -> u32 {
        u32::from(self.0)
    }

    /// 2^b.
    #[must_use]
    pub fn slots(self) -> u32 {
        1 << self.0
    }

    /// Every slot in the order of the circle.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        (0..self.slots()).map(Slot)
    }

    /// The slot in which an identifier lies.
    #[must_use]
    pub fn slot_of(self, id: Id) -> Slot {
        let [b0, b1, b2, b3, ..] = *id.as_bytes();
        Slot(u32::from_be_bytes([b0, b1, b2, b3]) >> (32 - self.bits()))
    }

    /// The slot's last identifier. The owner of the slot is the owner of this point.
    #[must_use]
    pub fn point(self, slot: Slot) -> Id {
        let shift = 32 - self.bits();
        let top = (slot.0 << shift) | ((1u32 << shift) - 1);
        let mut bytes = [0xff; 20];
        bytes[..4].copy_from_slice(&top.to_be_bytes());
        Id::new(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_ends_at_its_point() {
        for bits in [1, 10, 20] {
            let bits = SlotBits::new(bits).unwrap();
            for slot in [Slot(0), Slot(bits.slots() / 2), Slot(bits.slots() - 1)] {
                let point = bits.point(slot);
                assert_eq!(bits.slot_of(point), slot);
                assert_eq!(bits.slot_of(point.plus_power(0)), Slot((slot.0 + 1) % bits.slots()));
            }
        }
    }

    #[test]
    fn bits_out_of_range_are_refused() {
        assert!(SlotBits::new(0).is_err());
        assert!(SlotBits::new(21).is_err());
        assert!(SlotBits::new(300).is_err());
    }
}
