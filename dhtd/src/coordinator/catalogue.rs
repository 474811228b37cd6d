//! The catalogue: which keyspaces there are, and k.
//!
//! It is a record in chain mode, changed by compare-and-set, so that two operators at once do each other no harm. Every peer
//! has a copy and goes by it. Whoever changes it tells everyone before it answers; who was not there then learns of it from
//! the revision that goes with every message between peers. Those who hold the record look at it now and then, in case
//! whoever changed it has died before it told anybody.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dht_core::{
    catalogue::{Catalogue, CatalogueError},
    overlay::Peer,
    record::{KeyspaceId, Mode, RecordKey},
    replication::chain::{Action, Command, Condition, Outcome, Record, Refusal, RequestId, Value},
};
use dhtd_proto::v1::{self, peer_call::Call, peer_reply::Reply};
use tokio::{task::JoinSet, time::interval};

use super::{Coordinator, OPERATION_TIME, OperationError};
use crate::{driver::control, transport::Lane, wire};

impl Coordinator {
    /// The keyspace that a request names; empty: `default`.
    ///
    /// # Errors
    /// If there is none of that name, or nobody can tell.
    pub async fn keyspace(&self, name: &str) -> Result<(KeyspaceId, Mode), OperationError> {
        if let Some(keyspace) = self.known_keyspace(name)? {
            return Ok(keyspace);
        }
        // It may have been created a moment ago.
        self.refresh_catalogue().await?;
        self.known_keyspace(name)?.ok_or_else(|| CatalogueError::NotFound(name.to_owned()).into())
    }

    /// Where a client's key is: in which keyspace, and how that is replicated.
    ///
    /// # Errors
    /// If there is no such keyspace, or the key is empty or too long.
    pub async fn place(&self, keyspace: &str, key: Bytes) -> Result<(Mode, RecordKey), OperationError> {
        let (keyspace, mode) = self.keyspace(keyspace).await?;
        Ok((mode, Self::key_in(keyspace.0, key)?))
    }

    /// Reads the catalogue's record and goes by it.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn refresh_catalogue(&self) -> Result<(), OperationError> {
        let catalogue = self.read_catalogue().await?;
        self.learn_catalogue(catalogue).await;
        Ok(())
    }

    /// Changes the catalogue, and returns what `change` does. Answered when those who can be reached go by it. It goes on if
    /// whoever asked does not wait any more.
    ///
    /// # Errors
    /// If `change` refuses, or the record can't be written. With [`OperationError::OutcomeUnknown`] it may be changed.
    pub async fn change_catalogue<T: Send + 'static>(
        &self,
        change: impl Fn(&mut Catalogue) -> Result<T, CatalogueError> + Send + Sync + 'static,
    ) -> Result<T, OperationError> {
        let this = self.clone();
        let changing = tokio::spawn(async move { this.compare_and_set_catalogue(change).await });
        changing.await.unwrap_or(Err(OperationError::Stopping))
    }

    async fn compare_and_set_catalogue<T>(
        &self,
        change: impl Fn(&mut Catalogue) -> Result<T, CatalogueError>,
    ) -> Result<T, OperationError> {
        let deadline = Instant::now() + OPERATION_TIME;
        // So that an attempt that was carried out is not taken for somebody else's.
        let mut request = RequestId { client: rand::random(), sequence: 0, floor: 0 };
        loop {
            let current = self.read_catalogue().await?;
            let mut next = current.clone();
            next.spare_numbers_of(&self.0.shared.catalogue.newest());
            let done = change(&mut next)?;
            if next == current {
                return Ok(done);
            }
            request.sequence += 1;
            request.floor = request.floor.max(current.revision);
            let condition =
                if current.revision == 0 { Condition::Absent } else { Condition::Revision(current.revision) };
            let command = Command {
                at: Catalogue::key(),
                condition: Some(condition),
                action: Action::Put(wire::catalogue_value(&next)),
                expires: None,
                request: Some(request),
            };
            match self.command(command, 1).await {
                Ok((Outcome::Done { revision, .. }, _)) => {
                    next.revision = revision;
                    self.spread_catalogue(next).await;
                    return Ok(done);
                }
                // The slot has gone on since the record was written.
                Err(OperationError::ChainRefused(Refusal::TooOld(revision))) => request.floor = revision,
                Err(error) => return Err(error),
                // Somebody else was quicker.
                Ok(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(Refusal::Busy.into());
            }
        }
    }

    /// Another peer tells of its catalogue, or asks for this one's.
    ///
    /// # Errors
    /// If what it tells makes no sense.
    pub async fn catalogue_for_peer(&self, call: v1::CatalogueCall) -> Result<v1::CatalogueReply, OperationError> {
        if let Some(told) = call.catalogue {
            self.learn_catalogue(wire::decode_catalogue(told)?).await;
        }
        let newest = self.0.shared.catalogue.newest();
        let catalogue = (newest.revision > call.revision).then(|| wire::catalogue(&newest));
        Ok(v1::CatalogueReply { catalogue })
    }

    /// A message has come from a peer that goes by this revision of the catalogue. If that is newer, the peer is asked for
    /// it. Must be called within a tokio runtime.
    pub fn heard_of_catalogue(&self, peer: &Peer, revision: u64) {
        let known = self.0.shared.catalogue.newest().revision;
        // The ring is known first: without it a peer has no use for a catalogue.
        let of_use = revision > known && self.0.shared.chains.get().is_some();
        if !of_use || self.0.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (this, address) = (self.clone(), peer.address.clone());
        tokio::spawn(async move {
            let call = Call::Catalogue(v1::CatalogueCall { revision: known, catalogue: None });
            let answer = this.0.shared.calls.call(&address, Lane::Foreground, call, TELL_TIME).await;
            if let Ok(Reply::Catalogue(v1::CatalogueReply { catalogue: Some(catalogue) })) = answer {
                match wire::decode_catalogue(catalogue) {
                    Ok(catalogue) => this.learn_catalogue(catalogue).await,
                    Err(error) => tracing::warn!(%address, %error, "a peer's catalogue makes no sense"),
                }
            }
            this.0.asking.store(false, Ordering::Release);
        });
    }

    /// While this peer holds the catalogue's record, looks at it now and then. Never ends.
    pub async fn watch_catalogue(self) {
        let mut looks = interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let (Ok(chains), Ok(shards)) = (self.chains(), self.shards()) else { continue };
            let slot = shards.slot_of(&Catalogue::key().key);
            if chains.view(slot).is_some_and(|view| view.has(self.me())) {
                // If it can't be read now, it will be later.
                drop(self.refresh_catalogue().await);
            }
        }
    }

    /// Refuses what is about a keyspace that was dropped.
    pub(super) fn check_keyspace(&self, keyspace: KeyspaceId) -> Result<(), OperationError> {
        let dropped = self.0.shared.catalogue.newest().is_dropped(keyspace);
        if dropped { Err(CatalogueError::Dropped.into()) } else { Ok(()) }
    }

    fn known_keyspace(&self, name: &str) -> Result<Option<(KeyspaceId, Mode)>, OperationError> {
        // Without chains there is no ring yet.
        self.chains()?;
        let catalogue = self.0.shared.catalogue.newest();
        Ok(catalogue.keyspace(name).map(|keyspace| (keyspace.id, keyspace.mode)))
    }

    async fn read_catalogue(&self) -> Result<Catalogue, OperationError> {
        match self.read_chain(Catalogue::key(), false).await? {
            Some(Record { revision, value: Value::Bytes(value), .. }) => {
                Ok(wire::decode_catalogue_value(revision, value)?)
            }
            Some(_) => Err(wire::Malformed("the catalogue's record holds a counter").into()),
            None => {
                let ring = self.0.shared.routes.load().ring.ok_or(OperationError::NotAMember)?;
                Ok(Catalogue::founding(&ring))
            }
        }
    }

    async fn learn_catalogue(&self, catalogue: Catalogue) {
        if self.0.shared.catalogue.learn(catalogue).await {
            self.0.control.send(control::Command::Catalogue).await;
        }
    }

    /// Goes by the catalogue, and waits until those who can be reached do so, too.
    async fn spread_catalogue(&self, catalogue: Catalogue) {
        let call = v1::CatalogueCall { revision: catalogue.revision, catalogue: Some(wire::catalogue(&catalogue)) };
        let mut told = JoinSet::new();
        let me = self.me();
        for peer in self.0.shared.routes.load().peers().filter(|peer| peer.id != me) {
            let (shared, address, call) = (self.0.shared.clone(), peer.address.clone(), call.clone());
            told.spawn(async move {
                // Who does not answer hears of it with the next message.
                drop(shared.calls.call(&address, Lane::Foreground, Call::Catalogue(call), TELL_TIME).await);
            });
        }
        self.learn_catalogue(catalogue).await;
        told.join_all().await;
    }
}

/// How long a peer may take to take a catalogue in or to tell its own: it may have to write it to its disk. A guess.
const TELL_TIME: Duration = Duration::from_secs(1);

/// How often those who hold the record look at it. It is a read that needs nobody else. A guess.
const LOOK_EVERY: Duration = Duration::from_secs(2);
