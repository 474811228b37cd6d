//! Commands about the ring itself.

pub(crate) mod depart;
pub(crate) mod explain;
pub(crate) mod join;
pub(crate) mod lookup;
pub(crate) mod overlay;
pub(crate) mod recover;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod verify;
