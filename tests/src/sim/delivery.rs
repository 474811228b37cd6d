//! What is on its way: messages between hosts, and timers.

use std::{
    hash::{Hash, Hasher},
    mem,
    time::Duration,
};

use dht_core::{
    overlay::{Body, Destination, Event, Input, Message, Output, Timer},
    replication::eventual,
};

use super::{
    Maintenance, World,
    chains::{ChainPacket, ChainTimer, ClientEvent},
    data::{DataPacket, DataTimer},
};

/// Something that is due at some time.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// A packet arrives.
    Packet { to: usize, packet: Packet },
    /// A timer of a process fires, if it is still the same process.
    Timer { host: usize, incarnation: u64, timer: HostTimer },
    /// Something happens to a client.
    Client(ClientEvent),
}

/// What hosts send each other.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Overlay(Box<Message>),
    Data { from: usize, packet: Box<DataPacket> },
    Chains(usize, Box<ChainPacket>),
}

/// What a host is woken for.
#[derive(Clone, Debug)]
pub(super) enum HostTimer {
    Overlay(Timer),
    Data(DataTimer),
    Chains(ChainTimer),
    /// It hears of the k that holds now.
    Replicas,
}

impl Packet {
    /// It says that its receiver was given up: also from somebody who was, too.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Chains(_, packet) if matches!(&**packet, ChainPacket::Recovery(packet) if packet.is_refusal()))
    }
}

impl World {
    /// Gives a host an input now.
    pub fn input(&mut self, host: usize, input: Input) {
        let Some(state) = &mut self.hosts[host].state else { return };
        let outputs = state.handle(self.now, input);
        let changed = outputs.iter().any(|output| matches!(output, Output::Event(Event::RoutesChanged)));
        if changed {
            self.take_census(host);
        }
        self.carry_out(host, outputs);
        if changed {
            self.publish_routes(host);
            self.publish_routes_to_chains(host);
        }
    }

    /// Lets happen what is due.
    pub(super) fn deliver(&mut self, due: Due) {
        due.hash(&mut self.fingerprint);
        if let Due::Packet { to: host, .. } | Due::Timer { host, .. } = due
            && self.hosts[host].paused_until > self.now
        {
            let at = self.hosts[host].paused_until;
            return self.queue.push(at, due);
        }
        match due {
            Due::Packet { to, packet } => self.deliver_packet(to, packet),
            Due::Client(event) => self.client(event),
            Due::Timer { host, incarnation, timer } if self.hosts[host].incarnation == incarnation => match timer {
                HostTimer::Overlay(timer) if self.fires(&timer) => self.input(host, Input::Timer(timer)),
                HostTimer::Overlay(_) => {}
                HostTimer::Data(timer) => self.data_timer(host, timer),
                HostTimer::Chains(timer) => self.chain_timer(host, timer),
                HostTimer::Replicas => self.input(host, Input::Replicas(self.config.replicas)),
            },
            Due::Timer { .. } => {}
        }
    }

    pub(super) fn deliver_packet(&mut self, to: usize, packet: Packet) {
        if self.hosts[to].chains.as_ref().is_some_and(|chains| !chains.claim.banned.is_empty()) {
            let from = match &packet {
                Packet::Overlay(message) => self.host_of(message.sender.id),
                Packet::Data { from, .. } | Packet::Chains(from, _) => *from,
            };
            if !packet.is_refusal() && self.refuses(to, from) {
                return;
            }
        }
        match packet {
            Packet::Overlay(message) => self.input(to, Input::Message(*message)),
            Packet::Data { from, packet } => self.data_packet(to, from, *packet),
            Packet::Chains(from, packet) => self.chain_packet(to, from, *packet),
        }
    }

    pub(super) fn carry_out(&mut self, from: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(to, message) => self.send_message(from, &to, &message),
                Output::SetTimer(after, timer) => self.set_timer(from, after, HostTimer::Overlay(timer)),
                Output::Event(Event::Joined(ring)) => {
                    self.open_data(from, ring, false);
                    self.open_chains(from, ring, false);
                    self.tell_replicas(from);
                }
                Output::Event(Event::Lookup { token, result }) => {
                    if !self.located(from, token, &result) && !self.located_for_chains(from, token, &result) {
                        self.answers.answered(token, result);
                    }
                }
                Output::Event(Event::PeerLeft(peer)) => self.replication(from, eventual::Input::Left(peer)),
                Output::Event(_) => {}
            }
        }
    }

    pub(super) fn set_timer(&mut self, host: usize, after: Duration, timer: HostTimer) {
        let incarnation = self.hosts[host].incarnation;
        self.queue.push(self.now + after, Due::Timer { host, incarnation, timer });
    }

    fn send_message(&mut self, from: usize, to: &Destination, message: &Message) {
        let address = match to {
            Destination::Peer(peer) => &peer.address,
            Destination::Address(address) => address,
        };
        let Some(&to) = self.by_address.get(address) else { return };
        let cut = self.hosts[from].part != self.hosts[to].part;
        if let Body::Find(find) = &message.body
            && !cut
            && self.hosts[to].state.is_none()
            && self.answers.looks_for(find.target)
        {
            self.dead_ends += 1;
        }
        self.send(from, to, &Packet::Overlay(Box::new(message.clone())));
    }

    /// Sends copies of a packet as the network lets them through.
    pub(super) fn send(&mut self, from: usize, to: usize, packet: &Packet) {
        if self.hosts[from].part != self.hosts[to].part || self.cuts.contains(&(from, to)) {
            return;
        }
        for delay in self.config.net.deliveries(&mut self.random) {
            self.queue.push(self.now + delay, Due::Packet { to, packet: packet.clone() });
        }
    }

    fn fires(&self, timer: &Timer) -> bool {
        match timer {
            Timer::Operation(..) | Timer::Hop(..) | Timer::Lookup(_) => true,
            Timer::Heartbeat => self.maintenance != Maintenance::Off,
            _ => self.maintenance == Maintenance::On,
        }
    }
}

impl Hash for Due {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Packet { to, packet } => {
                to.hash(state);
                match packet {
                    Packet::Overlay(message) => (message.sender.id, mem::discriminant(&message.body)).hash(state),
                    Packet::Data { from, packet } => (from, mem::discriminant(&**packet)).hash(state),
                    Packet::Chains(from, packet) => (from, mem::discriminant(&**packet)).hash(state),
                }
            }
            Self::Timer { host, incarnation, timer } => {
                (host, incarnation).hash(state);
                match timer {
                    HostTimer::Overlay(timer) => mem::discriminant(timer).hash(state),
                    HostTimer::Data(timer) => mem::discriminant(timer).hash(state),
                    HostTimer::Chains(timer) => mem::discriminant(timer).hash(state),
                    HostTimer::Replicas => {}
                }
            }
            Self::Client(event) => mem::discriminant(event).hash(state),
        }
    }
}
