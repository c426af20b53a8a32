//! What a flow's task is told, and how it obeys.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::config::plan::ContentKeys;
use crate::config::value::{FlowName, Gather};
use crate::io::open::Sender;
use crate::time::Instant;

use super::Flow;
use super::air::{Air, AirConfig};
use super::analysis::Analysis;
use super::egress::{EncryptionSeed, OutputConfig, SenderKey};
use super::handover::FlowState;
use super::orders::Inbox;
use super::rist::source::RistInput;
use super::rist::{RistKeys, RistLeg, RistNews, RistOutputConfig, RistOutputSeed, RistSourceConfig, RistSourceSeed};
use super::source::{Input, Receivers, SocketInput, Source, SourceConfig};
use super::srt::source::SrtInput;
use super::srt::stats::Phase;
use super::srt::{Keks, Link, LinkNews, LinkSeed, Opening, Part, SrtOutputConfig, SrtSourceConfig};
use super::stats::{FlowStats, OutputStats, SourceStats};
use super::tap::Tap;

/// What the control plane tells a flow's task.
#[derive(Debug)]
pub enum FlowCommand {
    /// Receive from this socket.
    OpenSource {
        /// The source's name.
        name: String,
        /// What is checked.
        config: SourceConfig,
        /// Open and bound.
        receivers: Receivers,
        /// Where its figures go.
        stats: Arc<SourceStats>,
    },
    /// Change what a source checks.
    RetuneSource(String, SourceConfig),
    /// Receive by SRT, over connections that are still to come.
    OpenSrtSource {
        /// The source's name.
        name: String,
        /// What is checked.
        config: SrtSourceConfig,
        /// Where its figures go.
        stats: Arc<SourceStats>,
    },
    /// Change what a source of SRT checks.
    RetuneSrtSource(String, SrtSourceConfig),
    /// Close a source's socket, and say so.
    CloseSource(String, oneshot::Sender<()>),
    /// Send from this socket for the outputs with this key.
    AddSender(SenderKey, Sender),
    /// Close that socket, and say so.
    DropSender(SenderKey, oneshot::Sender<()>),
    /// Add an output.
    OpenOutput {
        /// The output's name.
        name: String,
        /// Where and how.
        config: OutputConfig,
        /// With what its content is encrypted.
        encryption: Option<Box<EncryptionSeed>>,
        /// For RTP headers made here.
        ssrc: u32,
        /// Where its figures go.
        stats: Arc<OutputStats>,
    },
    /// Change what is on an output's datagrams.
    RetuneOutput(String, OutputConfig),
    /// Send by SRT, over connections that are still to come.
    OpenSrtOutput {
        /// The output, or the entitlement.
        part: Part,
        /// What is on each datagram.
        config: SrtOutputConfig,
        /// With what its content is encrypted.
        encryption: Option<Box<EncryptionSeed>>,
        /// Where its figures go.
        stats: Arc<OutputStats>,
    },
    /// Change what is on the datagrams of an output of SRT.
    RetuneSrtOutput(String, SrtOutputConfig),
    /// Make a connection for a source or an output of SRT.
    OpenLink(Part, Box<LinkSeed>),
    /// Keys that a connection asked for.
    ProvideKeks(Keks),
    /// End a connection, by [`PeerStats::number`](super::srt::stats::PeerStats::number).
    CloseLink(u64),
    /// Receive by RIST.
    OpenRistSource {
        /// The source's name.
        name: String,
        /// Its sockets, and what is checked.
        seed: Box<RistSourceSeed>,
        /// Where its figures go.
        stats: Arc<SourceStats>,
    },
    /// Change what a source of RIST checks.
    RetuneRistSource(String, RistSourceConfig),
    /// Send by RIST, over legs that are still to come.
    OpenRistOutput {
        /// The output's name.
        name: String,
        /// How.
        seed: RistOutputSeed,
        /// With what its content is encrypted.
        encryption: Option<Box<EncryptionSeed>>,
        /// Where its figures go.
        stats: Arc<OutputStats>,
    },
    /// Change how an output of RIST sends.
    RetuneRistOutput(String, RistOutputConfig),
    /// Send to another place by the leg of this number, or to none.
    SetRistLeg(String, usize, Option<Box<RistLeg>>),
    /// Keys that a tunnel asked for.
    ProvideRistKeys(Part, RistKeys),
    /// The passphrases of a source or an output of RIST are others: it asks for all keys anew.
    RenewRistKeys(Part),
    /// Remove an entitlement, end its connections, and say so.
    CloseEntitlement(String, oneshot::Sender<()>),
    /// Remove an output, end its connections, and say so.
    CloseOutput(String, oneshot::Sender<()>),
    /// The key files of an encryption hold these keys now.
    Encrypt(Box<EncryptionSeed>),
    /// What comes from a source is decrypted with these keys; `None`: it passes as it comes.
    Decrypt(String, Option<ContentKeys>),
    /// The gather budget.
    Gather {
        /// How long.
        gather: Gather,
        /// Per source: whether the kernel coalesces.
        gro: bool,
    },
    /// How its sources become one stream.
    Air(AirConfig),
    /// Analyse the transport streams, or don't.
    Analyse(bool),
    /// Give a copy of what is on air, or none any more.
    Tap(Option<Box<Tap>>),
    /// An operator puts a source on air; `None`: the operator's word is over.
    Switch(Option<String>),
    /// The daemon ends: send what waits, read no more, and say where all of it stands.
    Suspend(oneshot::Sender<FlowState>),
    /// Go on where this says. Until it comes, a flow that [resumes](FlowSeed::resumes) reads nothing.
    Resume(Box<FlowState>),
    /// Panic; for tests, in debug builds only.
    Panic,
}

impl FlowCommand {
    /// Whether it is about a connection by SRT.
    pub(super) const fn is_about_links(&self) -> bool {
        matches!(self, Self::OpenLink(..) | Self::CloseLink(_) | Self::ProvideKeks(_))
    }
}

/// What a flow's task is made of.
#[derive(Debug)]
pub struct FlowSeed {
    /// The flow's name.
    pub name: FlowName,
    /// The gather budget.
    pub gather: Gather,
    /// Whether transport streams are analysed.
    pub analyse: bool,
    /// Where its own figures go.
    pub stats: Arc<FlowStats>,
    /// Its orders; it ends when they end.
    pub commands: Inbox,
    /// Where it tells of its connections, and asks for keys.
    pub news: UnboundedSender<FlowNews>,
    /// It goes on where another one stood, and is told where that is.
    pub resumes: bool,
}

/// What a flow's task tells.
#[derive(Debug)]
pub enum FlowNews {
    /// Of a connection by SRT.
    Link(LinkNews),
    /// Of a tunnel by RIST.
    Rist(RistNews),
}

impl Flow {
    fn add_source(&mut self, name: String, stats: Arc<SourceStats>, input: Input) {
        let analysis = Analysis::new(self.analyse);
        self.sources.push(Source { name, stats, input, decryption: None, analysis });
        self.air.push(&mut self.sources, Instant::now());
    }

    /// Begin a connection for a source or output that may be gone by now.
    fn open_link(&mut self, part: &Part, seed: LinkSeed) {
        let now = Instant::now();
        let options = match part {
            Part::Output(_) | Part::Entitlement(_) => self.egress.srt.options(part),
            Part::Source(name) => {
                let there = self.sources.iter().any(|source| source.name == *name && source.is_srt());
                there.then_some((None, 0))
            }
        };
        let budget = self.budget();
        let goes_on = match (&seed.opening, part) {
            (Opening::GoOn(before), Part::Output(_) | Part::Entitlement(_)) => {
                self.egress.srt.adopt(part, before.variant)
            }
            _ => true,
        };
        let Some(options) = options else { return };
        let stats = seed.stats.clone();
        let link = match self.links.open(part.clone(), seed, &self.shard, budget, options, now) {
            Ok(link) => link,
            Err(error) => {
                tracing::error!(target: "mediaconnect::flow", "a socket of SRT can't be watched: {error}");
                stats.set_phase(Phase::Over);
                return;
            }
        };
        if !goes_on {
            link.stats.close_because("what it was sent before is not known any more".to_owned());
            link.close();
        }
        match part {
            Part::Output(_) | Part::Entitlement(_) => self.egress.srt.add(part, link),
            Part::Source(name) => {
                if let Some(Source { input: Input::Srt(srt), .. }) = self.sources.iter_mut().find(|s| s.name == *name) {
                    srt.add(link);
                }
            }
        }
        // The answer to whoever called is on its way at once.
        let shard = self.shard.clone();
        self.transmit(&mut shard.buffers.borrow_mut().send, now);
    }

    /// End connections, and tell their peers.
    fn close_links(&mut self, links: &[Rc<Link>]) {
        links.iter().for_each(|link| link.close());
        if !links.is_empty() {
            let shard = self.shard.clone();
            self.transmit(&mut shard.buffers.borrow_mut().send, Instant::now());
        }
    }

    fn rist_source(&mut self, name: &str) -> Option<&mut RistInput> {
        let source = self.sources.iter_mut().find(|source| source.name == name)?;
        if let Input::Rist(rist) = &mut source.input { Some(rist) } else { None }
    }

    /// Keys that a tunnel asked for.
    fn provide_rist_keys(&mut self, part: &Part, keys: RistKeys) {
        match part {
            Part::Source(name) => {
                if let Some(rist) = self.rist_source(name) {
                    rist.provide(keys);
                }
            }
            Part::Output(name) => self.egress.rist.provide(name, keys),
            Part::Entitlement(_) => {}
        }
    }

    /// Ask for all keys of a source or output anew, at once.
    fn renew_rist_keys(&mut self, part: &Part) {
        let now = Instant::now();
        match part {
            Part::Source(name) => {
                if let Some(rist) = self.rist_source(name) {
                    rist.renew_keys(now);
                }
            }
            Part::Output(name) => self.egress.rist.renew_keys(name, now),
            Part::Entitlement(_) => {}
        }
        let shard = self.shard.clone();
        self.transmit_rist(&mut shard.buffers.borrow_mut().send, now);
    }

    /// Analyse each source, and what a merge makes of them; or don't.
    fn analyse(&mut self, on: bool) {
        self.analyse = on;
        self.sources.iter_mut().for_each(|source| source.analysis.set(on, &source.stats.analysis));
        self.merged.set(on && matches!(self.air, Air::Merge(_)), &self.stats.merge.analysis);
    }

    fn add_watched(&mut self, name: String, stats: Arc<SourceStats>, input: std::io::Result<Input>) {
        match input {
            Ok(input) => self.add_source(name, stats, input),
            Err(error) => tracing::error!(target: "mediaconnect::flow", "a source's socket can't be watched: {error}"),
        }
    }

    fn close_source(&mut self, name: &str) {
        let Some(index) = self.sources.iter().position(|s| s.name == name) else { return };
        let source = self.sources.remove(index);
        self.air.remove(index, Instant::now());
        if let Input::Srt(srt) = &source.input {
            self.close_links(&srt.links().cloned().collect::<Vec<_>>());
        }
    }

    fn close_output(&mut self, name: &str) {
        self.egress.close(name);
        let shard = self.shard.clone();
        self.egress.rist.close(name, &mut shard.buffers.borrow_mut().send);
        self.close_receivers(&Part::Output(name.to_owned()));
    }

    /// Remove what is sent by SRT, and end its connections.
    fn close_receivers(&mut self, part: &Part) {
        let links = self.egress.srt.close(part);
        self.close_links(&links);
        self.egress.prune();
    }

    fn retune_air(&mut self, config: AirConfig) {
        let now = Instant::now();
        if let (Air::Merge(merge), false) = (&mut self.air, matches!(config, AirConfig::Merge { .. })) {
            merge.flush();
            let shard = self.shard.clone();
            self.release(&mut shard.buffers.borrow_mut(), now);
        }
        self.air.retune(config, &mut self.sources, now);
        self.analyse(self.analyse);
    }

    pub(super) fn obey(&mut self, command: FlowCommand) {
        match command {
            FlowCommand::OpenSource { name, config, receivers, stats } => {
                let sockets = SocketInput::new(config, receivers, stats.clone(), &self.shard.reactor);
                self.add_watched(name, stats, sockets.map(Input::Sockets));
            }
            FlowCommand::RetuneSource(name, config) => {
                if let Some(source) = self.sources.iter_mut().find(|s| s.name == name) {
                    source.retune(config, Instant::now());
                }
            }
            FlowCommand::OpenSrtSource { name, config, stats } => {
                let input = Input::Srt(Box::new(SrtInput::new(&config, stats.clone(), Instant::now())));
                self.add_source(name, stats, input);
            }
            FlowCommand::RetuneSrtSource(name, config) => {
                if let Some(Source { input: Input::Srt(srt), .. }) = self.sources.iter_mut().find(|s| s.name == name) {
                    srt.retune(&config, Instant::now());
                }
            }
            FlowCommand::OpenRistSource { name, seed, stats } => {
                let rist = RistInput::new(*seed, stats.clone(), &self.shard.reactor, Instant::now());
                self.add_watched(name, stats, rist.map(|rist| Input::Rist(Box::new(rist))));
            }
            FlowCommand::RetuneRistSource(name, config) => {
                if let Some(rist) = self.rist_source(&name) {
                    rist.retune(config, Instant::now());
                }
            }
            FlowCommand::CloseSource(name, done) => {
                self.close_source(&name);
                // Nobody waits any more when the answer is late.
                let _ = done.send(());
            }
            FlowCommand::AddSender(key, sender) => self.egress.add_sender(key, sender),
            FlowCommand::DropSender(key, done) => {
                self.egress.drop_sender(key);
                let _ = done.send(());
            }
            FlowCommand::OpenOutput { name, config, encryption, ssrc, stats } => {
                let variant = self.egress.variant(encryption, Instant::now());
                self.egress.open(name, &config, variant, ssrc, stats);
            }
            FlowCommand::RetuneOutput(name, config) => self.egress.retune(&name, &config),
            FlowCommand::CloseOutput(name, done) => {
                self.close_output(&name);
                let _ = done.send(());
            }
            FlowCommand::CloseEntitlement(name, done) => {
                self.close_receivers(&Part::Entitlement(name));
                let _ = done.send(());
            }
            FlowCommand::OpenSrtOutput { part, config, encryption, stats } => {
                let variant = self.egress.variant(encryption, Instant::now());
                self.egress.srt.open(part, config, variant, stats);
            }
            FlowCommand::RetuneSrtOutput(name, config) => self.egress.srt.retune(&Part::Output(name), config),
            FlowCommand::OpenRistOutput { name, seed, encryption, stats } => {
                let now = Instant::now();
                let variant = self.egress.variant(encryption, now);
                self.egress.rist.open(name, seed, variant, stats, now);
            }
            FlowCommand::Encrypt(encryption) => {
                self.egress.variant(Some(encryption), Instant::now());
                self.egress.prune();
            }
            FlowCommand::Decrypt(name, keys) => {
                if let Some(source) = self.sources.iter_mut().find(|source| source.name == name) {
                    source.decrypt(keys.as_ref());
                }
            }
            FlowCommand::RetuneRistOutput(name, config) => self.egress.rist.retune(&name, config),
            FlowCommand::SetRistLeg(name, number, leg) => {
                let set =
                    self.egress.rist.set_leg(&name, number, leg.map(|leg| *leg), &self.shard.reactor, Instant::now());
                if let Err(error) = set {
                    tracing::error!(target: "mediaconnect::flow", "an output's socket can't be watched: {error}");
                }
            }
            FlowCommand::ProvideRistKeys(part, keys) => self.provide_rist_keys(&part, keys),
            FlowCommand::RenewRistKeys(part) => self.renew_rist_keys(&part),
            FlowCommand::OpenLink(part, seed) => self.open_link(&part, *seed),
            FlowCommand::ProvideKeks(keks) => self.links.provide(&keks, Instant::now()),
            FlowCommand::CloseLink(number) => self.links.close(number),
            FlowCommand::Gather { gather, gro } => {
                self.gather = gather;
                self.sources.iter().for_each(|s| s.set_gro(gro));
            }
            FlowCommand::Air(config) => self.retune_air(config),
            FlowCommand::Analyse(on) => self.analyse(on),
            FlowCommand::Tap(tap) => self.egress.tap = tap,
            FlowCommand::Switch(name) => {
                let index = name.and_then(|name| self.sources.iter().position(|s| s.name == name));
                self.air.switch(index, Instant::now());
            }
            // Nobody waits any more when the answer is late.
            FlowCommand::Suspend(done) => _ = done.send(self.suspend()),
            FlowCommand::Resume(state) => {
                self.resumes = false;
                self.resume(*state);
            }
            FlowCommand::Panic => panic!("asked to, by a test"),
        }
    }
}
