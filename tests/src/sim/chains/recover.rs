//! Operators that recover by hand, as `dhtd::coordinator::recover` does it for them, each call a packet.

use std::{collections::BTreeSet, time::Duration};

use dht_core::{
    replication::{
        chain::Input,
        recovery::{Inquiry, Plan, Survey},
    },
    ring::PeerId,
    view::{Claim, Heard, View},
};
use rand::RngExt;

use super::{ChainPacket, ChainTimer};
use crate::sim::{
    World,
    delivery::{HostTimer, Packet},
};

/// A recovery under way at a host.
#[derive(Clone, Debug)]
pub(super) struct Recovering {
    dead: BTreeSet<PeerId>,
    inquiry: Inquiry,
    /// What everyone is asked to promise; `None`: they are only asked.
    claim: Option<Claim>,
    plan: Option<Plan>,
    /// Who has still to put which views into force.
    left: Vec<(usize, View, bool)>,
}

/// A recovery that has ended.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// What everyone has promised.
    pub claim: Claim,
    /// What was done.
    pub plan: Plan,
    /// When everyone had promised.
    pub claimed: Duration,
    /// When it had ended.
    pub ended: Duration,
}

/// What a recovery and those that it asks tell each other.
#[derive(Clone, Debug)]
pub(in crate::sim) enum RecoveryPacket {
    /// How do you stand, and do you promise this?
    Ask(Option<Claim>),
    /// So, and it is promised.
    Surveyed(Option<Claim>, Survey),
    /// Something else was promised.
    Refused(Option<Claim>),
    /// Put these into force.
    Recover(Claim, Vec<(View, bool)>),
    /// Done.
    Recovered(Claim),
    /// You were given up.
    GivenUp(Claim),
}

impl RecoveryPacket {
    pub(in crate::sim) fn is_refusal(&self) -> bool {
        matches!(self, Self::GivenUp(_))
    }
}

impl World {
    /// An operator asks the host to recover, and asks again until that has come to an end.
    pub fn recover(&mut self, host: usize, dead: &[usize]) {
        let dead = dead.iter().map(|host| self.hosts[*host].id).collect();
        self.begin_recovery(host, dead);
        self.set_timer(host, Duration::ZERO, HostTimer::Chains(ChainTimer::Recovery));
    }

    /// Whether an operator waits for a recovery.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        let chains = self.hosts.iter().filter_map(|host| host.chains.as_ref());
        chains.into_iter().any(|chains| chains.recovering.is_some() || chains.waiting.is_some())
    }

    fn begin_recovery(&mut self, host: usize, dead: BTreeSet<PeerId>) {
        let Some(state) = &self.hosts[host].state else { return };
        let inquiry = Inquiry::new(state.routes().members().clone(), dead.clone());
        if let Some(chains) = &mut self.hosts[host].chains {
            let (claim, plan, left) = (None, None, Vec::new());
            chains.recovering = Some(Recovering { dead, inquiry, claim, plan, left });
        }
    }

    /// Asks whoever has not answered.
    pub(super) fn go_on_recovering(&mut self, host: usize) {
        let Some(recovering) = self.hosts[host].chains.as_ref().and_then(|it| it.recovering.clone()) else { return };
        let Recovering { inquiry, claim, plan, left, .. } = recovering;
        self.set_timer(host, ASK_EVERY, HostTimer::Chains(ChainTimer::Recovery));
        if plan.is_none() {
            for peer in inquiry.missing() {
                let to = self.host_of(peer);
                self.tell(host, to, RecoveryPacket::Ask(claim.clone()));
            }
        } else if let Some(claim) = claim {
            let hosts: BTreeSet<usize> = left.iter().map(|it| it.0).collect();
            for to in hosts {
                let views = left.iter().filter(|it| it.0 == to).map(|it| (it.1.clone(), it.2)).collect();
                self.tell(host, to, RecoveryPacket::Recover(claim.clone(), views));
            }
        }
    }

    fn tell(&mut self, from: usize, to: usize, packet: RecoveryPacket) {
        let packet = Packet::Chains(from, Box::new(ChainPacket::Recovery(packet)));
        if from == to { self.deliver_packet(to, packet) } else { self.send(from, to, &packet) }
    }

    pub(super) fn recovery_packet(&mut self, host: usize, from: usize, packet: RecoveryPacket) {
        match packet {
            RecoveryPacket::Ask(claim) => {
                let answer = self.survey(host, claim.as_ref());
                let refused = RecoveryPacket::Refused(claim.clone());
                let answer = answer.map_or(refused, |it| RecoveryPacket::Surveyed(claim, it));
                self.tell(host, from, answer);
            }
            RecoveryPacket::Surveyed(claim, survey) => self.surveyed(host, from, &claim, survey),
            RecoveryPacket::Refused(claim) => self.try_again(host, &claim),
            RecoveryPacket::Recover(claim, views) => {
                let stands = self.hosts[host].chains.as_ref().is_some_and(|chains| chains.claim == claim);
                if stands {
                    views.into_iter().for_each(|(view, empty)| self.chains(host, Input::Recover(view, empty)));
                }
                self.tell(
                    host,
                    from,
                    if stands { RecoveryPacket::Recovered(claim) } else { RecoveryPacket::Refused(Some(claim)) },
                );
            }
            RecoveryPacket::Recovered(claim) => self.recovered(host, from, &claim),
            RecoveryPacket::GivenUp(claim) => self.hear_claim(host, &claim),
        }
    }

    /// How the host stands; `None` if it does not promise what it was asked for.
    fn survey(&mut self, host: usize, claim: Option<&Claim>) -> Option<Survey> {
        let known = self.hosts[host].chains.as_ref().map(|chains| chains.claim.clone())?;
        if let Some(claim) = claim {
            if !known.admits(claim) {
                return None;
            }
            self.promise(host, claim.clone());
        }
        let (now, incarnation) = (self.now, self.hosts[host].incarnation);
        let routes = self.hosts[host].state.as_ref()?.routes();
        let (members, leaving) = (routes.members().clone(), routes.me.leaving);
        let chains = self.hosts[host].chains.as_mut()?;
        // What is said is on disk.
        chains.disk.synced(chains.disk.stored_so_far());
        let reports = chains.state.as_ref()?.reports(chains.time(now)).collect();
        Some(Survey { incarnation, claim: chains.claim.clone(), members, leaving, reports })
    }

    fn promise(&mut self, host: usize, claim: Claim) {
        if let Some(chains) = &mut self.hosts[host].chains {
            chains.claim = claim.clone();
            self.chains(host, Input::Claim(claim));
        }
    }

    fn surveyed(&mut self, host: usize, from: usize, claim: &Option<Claim>, survey: Survey) {
        let (now, id, from) = (self.now, self.hosts[host].id, self.hosts[from].id);
        let (bits, replicas) = (self.config.slot_bits, self.config.replicas);
        let Some(recovering) = self.hosts[host].chains.as_mut().and_then(|chains| chains.recovering.as_mut()) else {
            return;
        };
        if recovering.claim != *claim || recovering.plan.is_some() {
            return;
        }
        recovering.inquiry.answered(from, survey);
        if !recovering.inquiry.missing().is_empty() {
            return;
        }
        let Some(claim) = claim else {
            // Everyone has said how it stands: now they are asked to promise.
            let claim = recovering.inquiry.claim(id);
            let members = recovering.inquiry.survivors().collect();
            recovering.inquiry = Inquiry::new(members, recovering.dead.clone());
            recovering.claim = Some(claim);
            return self.go_on_recovering(host);
        };
        let plan = recovering.inquiry.plan(claim, bits, replicas);
        recovering.plan = Some(plan.clone());
        let (claim, counter) = (claim.clone(), claim.generation.counter);
        self.recoveries.push(Recovery { claim, plan, claimed: now, ended: Duration::MAX });
        let wait = self.config.chains.as_ref().map_or(Duration::ZERO, |config| config.chain.lease.grant_holds());
        self.set_timer(host, wait, HostTimer::Chains(ChainTimer::LeasesEnded(counter)));
    }

    /// All leases have run out: views come into force.
    pub(super) fn leases_ended(&mut self, host: usize, counter: u32) {
        let recovering = self.hosts[host].chains.as_ref().and_then(|chains| chains.recovering.as_ref());
        let recovering = recovering.and_then(|it| it.plan.clone().zip(it.claim.clone()));
        let Some((plan, claim)) = recovering.filter(|(_, claim)| claim.generation.counter == counter) else { return };
        let members = plan.recovered.iter().flat_map(|it| it.view.chain.iter().map(move |member| (member.peer, it)));
        let left: Vec<(usize, View, bool)> =
            members.map(|(peer, it)| (self.host_of(peer), it.view.clone(), it.begins_empty)).collect();
        let nothing = left.is_empty();
        if let Some(recovering) = self.hosts[host].chains.as_mut().and_then(|chains| chains.recovering.as_mut()) {
            recovering.left = left;
        }
        if nothing {
            self.recovered(host, host, &claim);
        }
    }

    fn recovered(&mut self, host: usize, from: usize, claim: &Claim) {
        let now = self.now;
        let Some(chains) = &mut self.hosts[host].chains else { return };
        let Some(recovering) = chains.recovering.as_mut().filter(|it| it.claim.as_ref() == Some(claim)) else { return };
        recovering.left.retain(|it| it.0 != from);
        if recovering.left.is_empty() {
            chains.recovering = None;
            let mine = self.recoveries.iter_mut().find(|it| it.claim == *claim);
            if let Some(recovery) = mine {
                recovery.ended = now;
            }
        }
    }

    /// Another recovery was quicker; the operator tries again a little later.
    fn try_again(&mut self, host: usize, refused: &Option<Claim>) {
        let Some(chains) = &mut self.hosts[host].chains else { return };
        if chains.recovering.as_ref().is_some_and(|recovering| recovering.claim == *refused) {
            chains.waiting = chains.recovering.take();
            let wait = self.random.random_range(Duration::ZERO..TRY_AGAIN);
            self.set_timer(host, wait, HostTimer::Chains(ChainTimer::TryAgain));
        }
    }

    pub(super) fn try_recovery_again(&mut self, host: usize) {
        let waiting = self.hosts[host].chains.as_mut().and_then(|chains| chains.waiting.take());
        if let Some(Recovering { dead, .. }) = waiting {
            self.begin_recovery(host, dead);
            self.set_timer(host, Duration::ZERO, HostTimer::Chains(ChainTimer::Recovery));
        }
    }

    /// Somebody goes by this claim.
    pub(super) fn hear_claim(&mut self, host: usize, claim: &Claim) {
        let Some(chains) = &self.hosts[host].chains else { return };
        match chains.claim.hear(self.hosts[host].id, claim) {
            Heard::Nothing => {}
            Heard::Newer => {
                let banned = chains.claim.banned.union(&claim.banned).copied().collect();
                self.promise(host, Claim { banned, ..claim.clone() });
            }
            Heard::GivenUp if self.hosts[host].state.is_some() => {
                self.kill(host);
                self.hosts[host].given_up = true;
            }
            Heard::GivenUp => {}
            Heard::Rival => self.chains(host, Input::Rival(claim.generation)),
        }
    }

    /// Whether the packet is of somebody who was given up. He hears so.
    pub(in crate::sim) fn refuses(&mut self, to: usize, from: usize) -> bool {
        let (id, up) = (self.hosts[from].id, self.hosts[to].state.is_some());
        let claim = self.hosts[to].chains.as_ref().map(|chains| &chains.claim);
        let Some(claim) = claim.filter(|claim| up && claim.banned.contains(&id)).cloned() else { return false };
        let packet = Packet::Chains(to, Box::new(ChainPacket::Recovery(RecoveryPacket::GivenUp(claim))));
        self.send(to, from, &packet);
        true
    }
}

/// How often those are asked again that have not answered. A guess.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// An operator who was told that somebody else is recovering tries again within this time. A guess.
const TRY_AGAIN: Duration = Duration::from_secs(1);
