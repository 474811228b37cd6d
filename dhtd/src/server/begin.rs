//! How a peer begins, from what it was told and what is on its disk.

use std::sync::Arc;

use dht_core::{
    founding::{self, Candidate, Roster, Terms},
    overlay::{self, Peer, Ring, RingId},
};
use tokio::sync::oneshot;

use super::{ServerError, given_up};
use crate::{
    config::{Config, Founding, Start},
    driver::{Claims, Handle, Membership, control::Command},
    storage::DataDir,
};

/// What the peer does first.
pub(super) enum Begin {
    Found(Ring),
    Expect(Box<founding::State>),
    Resume(overlay::Saved),
    Join(Vec<Arc<str>>),
    Wait,
}

/// A peer that belongs to a ring can do nothing for it.
pub(super) enum Stuck {
    /// Its data could not be opened.
    NoData,
    /// It could not note which ring it founds.
    NotFounded,
}

impl Begin {
    pub(super) fn new(config: &Config, dir: &DataDir, me: &Peer) -> Result<Self, ServerError> {
        let name = || config.data_dir.display().to_string();
        if Membership::has_departed(dir)? {
            return Err(ServerError::Departed(name()));
        }
        if let Some(generation) = Claims::gave_up(dir)? {
            return Err(given_up(name(), generation));
        }
        let (half_founded, saved) = (Membership::half_founded(dir)?, Membership::load(dir)?);
        if let Some(ring) = half_founded.or(saved.as_ref().map(|saved| saved.ring)) {
            let joins = matches!(config.start, Start::Expect { .. });
            // A ring that was there already may have another k by then.
            let said = if joins { Founding { replicas: None, ..config.founding } } else { config.founding };
            if let Some(what) = said.differs_from(&ring) {
                return Err(ServerError::FoundedOtherwise { dir: name(), what });
            }
            return Ok(saved.map_or(Self::Found(ring), |mut saved| {
                // Those that it knew may all be gone by now.
                if let Start::Join(seeds) = &config.start {
                    saved.seeds.retain(|seed| !seeds.contains(seed));
                    saved.seeds.extend(seeds.iter().cloned());
                }
                Self::Resume(saved)
            }));
        }
        let roster = Membership::roster(dir)?;
        let expect = |terms: Terms, seeds: &[Arc<str>], roster| {
            let me = Candidate { id: me.id, address: me.address.clone() };
            Self::Expect(Box::new(founding::State::new(founding::Config::default(), me, terms, seeds.to_vec(), roster)))
        };
        match (&config.start, roster) {
            (Start::Expect { peers, .. }, Some(roster)) if roster.terms != config.founding.terms(*peers) => {
                Err(agreed_otherwise(name(), &roster))
            }
            (Start::Expect { peers, seeds }, roster) => Ok(expect(config.founding.terms(*peers), seeds, roster)),
            (Start::Unsaid, Some(roster)) => Ok(expect(roster.terms, &[], Some(roster))),
            (Start::Bootstrap, Some(roster)) => Err(agreed_otherwise(name(), &roster)),
            (Start::Bootstrap, None) => {
                let Terms { replicas, slot_bits, mode, .. } = config.founding.terms(1);
                Ok(Self::Found(Ring { id: RingId(rand::random()), replicas, slot_bits, mode }))
            }
            // A ring that is there: the one that was agreed upon is not, or is that one.
            (Start::Join(seeds), _) => Ok(Self::Join(seeds.clone())),
            (Start::Idle(_), _) => Ok(Self::Wait),
            (Start::Unsaid, None) => Err(ServerError::NoRing(name())),
        }
    }

    /// Does it. The answer comes once the first step is done.
    pub(super) async fn set_out(self, handle: &Handle) -> Result<(), Stuck> {
        let belongs = matches!(self, Self::Found(_) | Self::Resume(_));
        match self {
            Self::Found(ring) => handle.send(Command::Found(ring)).await,
            Self::Expect(state) => handle.send(Command::Expect(*state)).await,
            Self::Resume(saved) => handle.send(Command::Resume(saved)).await,
            Self::Join(seeds) => {
                tracing::info!(seeds = %seeds.join(", "), "joining");
                let (reply, _) = oneshot::channel();
                handle.send(Command::Join(seeds, reply)).await;
            }
            Self::Wait => tracing::info!("waiting to be told to join"),
        }
        let stands = handle.inspect(|overlay, replication| (replication.is_some(), overlay.ring().is_some())).await;
        match stands.filter(|_| belongs) {
            Some((false, _)) => Err(Stuck::NoData),
            Some((true, false)) => Err(Stuck::NotFounded),
            Some((true, true)) | None => Ok(()),
        }
    }
}

fn agreed_otherwise(dir: String, roster: &Roster) -> ServerError {
    let members: Vec<String> = roster.members.iter().map(|(id, at)| format!("{} {at}", id.short())).collect();
    ServerError::AgreedOtherwise { dir, agreed: format!("{} with {}", roster.terms, members.join(", ")) }
}
