//! Recover: slots in chain mode that have lost most of their electors for good are started again from what is left.
//! What is asked and decided, and why that is safe, is in [`dht_core::replication::recovery`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dht_core::{
    overlay::{self, Health, Peer},
    replication::recovery::{Inquiry, Plan, Survey},
    ring::PeerId,
    view::{Claim, LeaseConfig, View},
};
use dhtd_proto::v1::{self, peer_call::Call, peer_reply::Reply};
use thiserror::Error;
use tokio::{task::JoinSet, time::sleep};

use super::{Coordinator, OperationError};
use crate::{transport::Lane, wire};

/// What a recovery has done, or would do.
#[derive(Clone, Debug)]
pub struct Findings {
    /// What everyone who is left has promised, or would have to.
    pub claim: Claim,
    /// Those that are left.
    pub survivors: Vec<PeerId>,
    /// What becomes of the slots.
    pub plan: Plan,
    /// The descriptions of all peers that this one knows.
    pub peers: BTreeMap<PeerId, Peer>,
}

/// A recovery was not carried out, or not to its end: then it can be asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecoverError {
    /// Nothing has changed.
    #[error("no peer of the ring is known by the id {0}")]
    Unknown(String),
    /// Nothing has changed.
    #[error("peer {0} answers: only who is lost for good can be given up; let it depart, or stop it first")]
    Alive(String),
    /// Before anything was promised nothing has changed; afterwards those that are given up stay so.
    #[error(
        "{0} do not answer: everyone who is not given up has to, since nobody else may know what it knows; start them \
         again, or give them up, too"
    )]
    Missing(String),
    /// Whoever was asked has promised another recovery.
    #[error("another recovery is under way, or was carried out meanwhile: look what is left to do, and ask again")]
    Overtaken,
    /// All other slots are recovered.
    #[error("peers have lost copies that were counted on, of the slots {0}: ask again, and what is left decides")]
    CopiesGone(String),
    /// This peer carries one out.
    #[error("this peer carries out a recovery already: wait until it has ended")]
    Busy,
}

impl Coordinator {
    /// Starts again what has no majority of electors any more without these peers, or says what that would do.
    ///
    /// # Errors
    /// See [`RecoverError`].
    pub async fn recover(&self, dead: BTreeSet<PeerId>, dry_run: bool) -> Result<Findings, OperationError> {
        let Ok(_one_at_a_time) = self.0.recovering.try_lock() else { return Err(RecoverError::Busy.into()) };
        let routes = self.0.shared.routes.load_full();
        let (bits, replicas) =
            routes.ring.map(|ring| (ring.slot_bits, ring.replicas)).ok_or(OperationError::NotAMember)?;
        let peers = self.check(&dead).await?;
        // Whoever was given up before is not asked.
        let before = self.0.shared.claims.known().banned.clone();
        let dead: BTreeSet<PeerId> = dead.union(&before).copied().collect();
        let survey = self.inquire(routes.members().clone(), &dead, None, &peers).await?;
        if let Some(stranger) = survey.strangers().iter().find(|peer| !before.contains(peer)) {
            return Err(RecoverError::Unknown(stranger.to_string()).into());
        }
        let claim = survey.claim(self.me());
        let survivors: Vec<PeerId> = survey.survivors().collect();
        if dry_run {
            let plan = survey.plan(&claim, bits, replicas);
            return Ok(Findings { claim, survivors, plan, peers });
        }
        tracing::warn!(counter = claim.generation.counter, given_up = ?claim.banned, "recovering");
        let members = survivors.iter().copied().collect();
        let promised = self.inquire(members, &dead, Some(&claim), &peers).await?;
        let plan = promised.plan(&claim, bits, replicas);
        sleep(LeaseConfig::default().grant_holds()).await;
        self.put_into_force(&claim, &plan, &peers).await?;
        tracing::warn!(counter = claim.generation.counter, slots = plan.recovered.len(), "recovered");
        Ok(Findings { claim, survivors, plan, peers })
    }

    /// Whoever is to be given up must not be there. Returns all peers that are known.
    async fn check(&self, dead: &BTreeSet<PeerId>) -> Result<BTreeMap<PeerId, Peer>, OperationError> {
        let known = |overlay: &overlay::State| {
            overlay.peers().map(|known| (known.peer.clone(), known.health)).collect::<Vec<_>>()
        };
        let known = self.0.control.inspect(move |overlay, _| known(overlay)).await.ok_or(OperationError::Stopping)?;
        let me = self.0.shared.routes.load().me.clone();
        let alive = known.iter().filter(|(_, health)| *health == Health::Alive).map(|(peer, _)| peer.id);
        if let Some(alive) = alive.chain([me.id]).find(|peer| dead.contains(peer)) {
            return Err(RecoverError::Alive(alive.to_string()).into());
        }
        Ok(known.into_iter().map(|(peer, _)| peer).chain([me]).map(|peer| (peer.id, peer)).collect())
    }

    /// Asks everyone who is not given up how it stands, and, with a claim, to promise it.
    async fn inquire(
        &self,
        members: BTreeSet<PeerId>,
        dead: &BTreeSet<PeerId>,
        claim: Option<&Claim>,
        peers: &BTreeMap<PeerId, Peer>,
    ) -> Result<Inquiry, OperationError> {
        let mut inquiry = Inquiry::new(members, dead.clone());
        loop {
            let missing = inquiry.missing();
            if missing.is_empty() {
                return Ok(inquiry);
            }
            let mut asked = JoinSet::new();
            for peer in missing {
                let (coordinator, known, claim) = (self.clone(), peers.get(&peer).cloned(), claim.cloned());
                asked.spawn(async move { (peer, coordinator.survey(peer, known, claim).await) });
            }
            let mut silent = Vec::new();
            for (peer, answer) in asked.join_all().await {
                match answer {
                    Some(Some(survey)) => inquiry.answered(peer, survey),
                    Some(None) => return Err(RecoverError::Overtaken.into()),
                    None => silent.push(peer.to_string()),
                }
            }
            if !silent.is_empty() {
                return Err(RecoverError::Missing(silent.join(", ")).into());
            }
        }
    }

    /// No answer, or what it is: nothing, if the peer does not promise what it was asked for.
    #[allow(clippy::option_option, reason = "whether it answers, and whether it promises")]
    async fn survey(&self, peer: PeerId, known: Option<Peer>, claim: Option<Claim>) -> Option<Option<Survey>> {
        if peer == self.me() {
            return self.survey_here(claim).await.ok();
        }
        let call = Call::Survey(v1::SurveyCall { claim: claim.as_ref().map(wire::chain::claim) });
        match self.0.shared.calls.call(&known?.address, Lane::Background, call, SURVEY_TIME).await {
            Ok(Reply::Survey(v1::SurveyReply { survey: Some(survey) })) => {
                wire::chain::decode_survey(survey).ok().map(Some)
            }
            Ok(Reply::Survey(v1::SurveyReply { survey: None })) => Some(None),
            _ => None,
        }
    }

    async fn survey_here(&self, claim: Option<Claim>) -> Result<Option<Survey>, OperationError> {
        let claims = &self.0.shared.claims;
        if let Some(claim) = claim.clone()
            && !claims.promise(claim).await.map_err(|error| OperationError::Promise(error.to_string()))?
        {
            return Ok(None);
        }
        let reports = self.chains()?.survey(claim.clone()).await?;
        // A later one may have been promised meanwhile: then this is not what it was asked for.
        let (promised, routes) = (claims.known(), self.0.shared.routes.load_full());
        let stands = claim.is_none_or(|claim| *promised == claim);
        let (incarnation, leaving) = (routes.me.incarnation, routes.me.leaving);
        let (claim, members) = ((*promised).clone(), routes.members().clone());
        Ok(stands.then_some(Survey { incarnation, claim, members, leaving, reports }))
    }

    /// How this peer stands, for a recovery that another one carries out.
    ///
    /// # Errors
    /// If it takes part in no chains, or can't write what it promises.
    pub async fn survey_for_peer(&self, call: v1::SurveyCall) -> Result<v1::SurveyReply, OperationError> {
        let claim = call.claim.map(wire::chain::decode_claim).transpose()?;
        let survey = self.survey_here(claim).await?;
        Ok(v1::SurveyReply { survey: survey.as_ref().map(wire::chain::survey) })
    }

    /// Puts views into force here, of a recovery that another peer carries out.
    ///
    /// # Errors
    /// If it takes part in no chains, or they can't be written.
    pub async fn recover_for_peer(&self, call: v1::RecoverCall) -> Result<v1::RecoverReply, OperationError> {
        let claim = wire::chain::decode_claim(call.claim.unwrap_or_default())?;
        let view =
            |it: v1::RecoveredView| Ok((wire::chain::decode_view(it.view.unwrap_or_default())?, it.begins_empty));
        let views = call.views.into_iter().map(view).collect::<Result<Vec<_>, wire::Malformed>>()?;
        self.recover_here(&claim, views).await
    }

    /// Whether this peer stands by the claim, and the views are in force.
    async fn recover_here(&self, claim: &Claim, views: Vec<(View, bool)>) -> Result<v1::RecoverReply, OperationError> {
        if *self.0.shared.claims.known() != *claim {
            return Ok(v1::RecoverReply::default());
        }
        let refused = self.chains()?.recover(views).await?.into_iter().map(|slot| slot.0).collect();
        // If a later one was promised meanwhile, they may have been refused for that.
        let done = *self.0.shared.claims.known() == *claim;
        Ok(v1::RecoverReply { done, refused })
    }

    /// Tells the members of each view.
    async fn put_into_force(
        &self,
        claim: &Claim,
        plan: &Plan,
        peers: &BTreeMap<PeerId, Peer>,
    ) -> Result<(), OperationError> {
        let mut by_peer: BTreeMap<PeerId, Vec<(View, bool)>> = BTreeMap::new();
        for slot in &plan.recovered {
            for member in &slot.view.chain {
                by_peer.entry(member.peer).or_default().push((slot.view.clone(), slot.begins_empty));
            }
        }
        let mut told = JoinSet::new();
        for (peer, views) in by_peer {
            let (coordinator, known, claim) = (self.clone(), peers.get(&peer).cloned(), claim.clone());
            told.spawn(async move { (peer, coordinator.recover_at(peer, known, claim, views).await) });
        }
        let (mut silent, mut refused) = (Vec::new(), BTreeSet::new());
        for (peer, answer) in told.join_all().await {
            match answer {
                Some(v1::RecoverReply { done: true, refused: slots }) => refused.extend(slots),
                Some(v1::RecoverReply { done: false, .. }) => return Err(RecoverError::Overtaken.into()),
                None => silent.push(peer.to_string()),
            }
        }
        if !silent.is_empty() {
            return Err(RecoverError::Missing(silent.join(", ")).into());
        }
        if !refused.is_empty() {
            let slots: Vec<String> = refused.iter().map(u32::to_string).collect();
            return Err(RecoverError::CopiesGone(slots.join(", ")).into());
        }
        Ok(())
    }

    /// No answer, or what was done there.
    async fn recover_at(
        &self,
        peer: PeerId,
        known: Option<Peer>,
        claim: Claim,
        views: Vec<(View, bool)>,
    ) -> Option<v1::RecoverReply> {
        if peer == self.me() {
            return self.recover_here(&claim, views).await.ok();
        }
        let view = |(view, begins_empty): &(View, bool)| v1::RecoveredView {
            view: Some(wire::chain::view(view)),
            begins_empty: *begins_empty,
        };
        let views = views.iter().map(view).collect();
        let call = Call::Recover(v1::RecoverCall { claim: Some(wire::chain::claim(&claim)), views });
        match self.0.shared.calls.call(&known?.address, Lane::Background, call, SURVEY_TIME).await {
            Ok(Reply::Recover(reply)) => Some(reply),
            _ => None,
        }
    }
}

/// How long a peer may take to say how it stands in all slots, or to put views into force: an fsync or two. A guess.
const SURVEY_TIME: Duration = Duration::from_secs(5);
