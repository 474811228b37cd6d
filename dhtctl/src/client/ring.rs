//! The ring itself.

use dhtd_proto::v1::{
    CreateKeyspaceRequest, DepartRequest, DepartResponse, DropKeyspaceRequest, JoinRequest, JoinResponse, Keyspace,
    ListKeyspacesRequest, LookupRequest, LookupResponse, Mode, OverlayRequest, OverlayResponse, SetReplicasRequest,
    SetReplicasResponse, StatusRequest, StatusResponse, VerifyRequest, VerifyResponse, lookup_request::Target,
    ring_service_client::RingServiceClient,
};
use tonic::{Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{Client, MAX_MESSAGE_BYTES, Messages};
use crate::error::{Access, Error};

impl Client {
    /// What the asked peer is, what it holds and how it fares.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        let request = StatusRequest {};
        self.call(Access::Read, request, |channel, request| async { ring(channel).status(request).await }).await
    }

    /// The asked peer's nodes and the peers it knows. [`crate::overlay::crawl`] puts those of all peers together.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn overlay(&self) -> Result<OverlayResponse, Error> {
        let request = OverlayRequest {};
        self.call(Access::Read, request, |channel, request| async { ring(channel).overlay(request).await }).await
    }

    /// Who owns a key or an identifier, and the way there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lookup(&self, target: Target) -> Result<LookupResponse, Error> {
        let request = LookupRequest { target: Some(target) };
        self.call(Access::Read, request, |channel, request| async { ring(channel).lookup(request).await }).await
    }

    /// Whether the ring keeps the invariant of its maintenance. If it is changing this may take as long as the client's
    /// time-out allows, or ten seconds; the answer is then that nobody can tell.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn verify(&self) -> Result<VerifyResponse, Error> {
        let request = VerifyRequest {};
        self.call(Access::Read, request, |channel, request| async { ring(channel).verify(request).await }).await
    }

    /// Whether the asked peer is a member of a ring and its store takes writes, by the gRPC health protocol.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn is_serving(&self) -> Result<bool, Error> {
        let request = HealthCheckRequest::default();
        let check = |channel, request| async { HealthClient::new(channel).check(request).await };
        self.call(Access::Read, request, check).await.map(|answer| answer.status() == ServingStatus::Serving)
    }

    /// Tells the asked peer to join a ring through `seeds` (`HOST:PORT`), and waits until it is a member.
    ///
    /// # Errors
    /// See [`Error`]. After a time-out the peer goes on joining.
    pub async fn join(&self, seeds: Vec<String>) -> Result<JoinResponse, Error> {
        let request = JoinRequest { seeds };
        self.call(Access::Write, request, |channel, request| async { ring(channel).join(request).await }).await
    }

    /// Makes a keyspace.
    ///
    /// # Errors
    /// See [`Error`]; check [`Error::may_have_executed`]. `KEYSPACE_EXISTS` if the name is taken.
    pub async fn create_keyspace(&self, name: &str, mode: Mode) -> Result<Keyspace, Error> {
        let request = CreateKeyspaceRequest { name: name.to_owned(), mode: mode.into() };
        let send = |channel, request| async { ring(channel).create_keyspace(request).await };
        Ok(self.call(Access::Write, request, send).await?.keyspace.unwrap_or_default())
    }

    /// Takes a keyspace away, with all its keys, for good.
    ///
    /// # Errors
    /// See [`Error`]; check [`Error::may_have_executed`]. `KEYSPACE_NOT_FOUND` if there is none of that name.
    pub async fn drop_keyspace(&self, name: &str) -> Result<Keyspace, Error> {
        let request = DropKeyspaceRequest { name: name.to_owned() };
        let send = |channel, request| async { ring(channel).drop_keyspace(request).await };
        Ok(self.call(Access::Write, request, send).await?.keyspace.unwrap_or_default())
    }

    /// Changes k, the number of copies of each key. The copies follow: [`Client::status`] tells how far that is.
    ///
    /// # Errors
    /// See [`Error`]; check [`Error::may_have_executed`].
    pub async fn set_replicas(&self, replicas: u32) -> Result<SetReplicasResponse, Error> {
        let request = SetReplicasRequest { replicas };
        let send = |channel, request| async { ring(channel).set_replicas(request).await };
        self.call(Access::Write, request, send).await
    }

    /// All keyspaces, by name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn keyspaces(&self) -> Result<Vec<Keyspace>, Error> {
        let mut keyspaces = Vec::new();
        let mut request = ListKeyspacesRequest::default();
        loop {
            let send = |channel, request| async { ring(channel).list_keyspaces(request).await };
            let page = self.call(Access::Read, request.clone(), send).await?;
            keyspaces.extend(page.keyspaces);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return Ok(keyspaces);
            }
        }
    }

    /// Tells the asked peer to hand everything over and to go. The last message has `done`. Handing over takes as long
    /// as it takes, so there is no deadline; a connection that is gone is noticed by keepalive.
    ///
    /// # Errors
    /// See [`Error`]. Whoever stops listening does not stop the peer.
    pub async fn depart(&self) -> Result<Messages<DepartResponse>, Error> {
        let start = |channel: Channel, request| async move { ring(channel).depart(Request::new(request)).await };
        self.stream(Access::Write, None, DepartRequest {}, start).await
    }
}

pub(super) fn ring(channel: Channel) -> RingServiceClient<Channel> {
    RingServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}
