//! What the steps of one compile have in common: the settings, what earlier compiles
//! left word of, this machine's slots, and the line of the event log as far as it is
//! known.

use std::cell::OnceCell;
use std::time::{Instant, SystemTime};

use hg_proto::options::args::Reason;

use crate::compile::audit::Audit;
use crate::compile::events::{self, Origin, Record};
use crate::compile::timeline::{Phase, Timeline};
use crate::config::Config;
use crate::grid::memo::Memos;
use crate::invocation::plan::Plan;
use crate::local::compiler::Found;
use crate::local::slots::{Slot, Slots};
use crate::os;

/// Why the compiler runs on this machine.
pub enum WhyLocal {
    /// The compile has to stay on this machine, or had better: not the grid's fault.
    Chosen(Reason),
    /// The compile had better stay here, and the slot for it is in hand.
    InSlot(Reason, Slot),
    /// The grid failed.
    GridFailed(Reason),
}

impl From<Reason> for WhyLocal {
    fn from(reason: Reason) -> Self {
        WhyLocal::Chosen(reason)
    }
}

/// A tree that did not compile on a worker: whether it does here will show.
pub struct SuspectTree {
    /// The memo of its toolchain.
    pub toolchain: Vec<u8>,
    /// The memo of its source.
    pub source: Vec<u8>,
}

/// One compile, as far as it has come.
pub struct Context<'a> {
    /// The settings.
    pub config: &'a Config,
    /// When this process began with it.
    pub began: Instant,
    /// The same by the clock of the file system.
    pub began_at: SystemTime,
    /// For the event log.
    pub record: Record,
    /// What the time went to.
    pub timeline: Timeline,
    /// What is known of grids and toolchains.
    pub memos: Memos,
    /// What is known of sources.
    pub sources: Memos,
    /// Set where a worker could not compile the tree.
    pub suspect: Option<SuspectTree>,
    /// Set where a worker's result is to be checked.
    pub audit: Option<Audit>,
    /// What this source is called in `sources`.
    source_key: OnceCell<Vec<u8>>,
    // Counting the cores takes longer than a cached answer.
    slots: OnceCell<Option<Slots>>,
}

impl<'a> Context<'a> {
    /// Of a compile by `found` that began at `began`.
    pub fn new(began: Instant, found: &Found, config: &'a Config) -> Context<'a> {
        let run = config.run_folder();
        Context {
            config,
            began,
            began_at: SystemTime::now(),
            record: Record {
                compiler: os::bytes(&found.command.arg0).to_vec(),
                ..Record::default()
            },
            timeline: Timeline::new(began),
            memos: Memos::new(run.as_deref()),
            sources: Memos::new(run.map(|run| run.join("sources")).as_deref()),
            suspect: None,
            audit: None,
            source_key: OnceCell::new(),
            slots: OnceCell::new(),
        }
    }

    /// The same for a compile whose result is wanted from a worker, however slow that is: no slot
    /// of this machine takes it back.
    pub fn without_slots(self) -> Context<'a> {
        Context {
            slots: OnceCell::from(None),
            ..self
        }
    }

    /// The slots of this machine; `None`: there is no folder for their locks, or none is to be
    /// taken.
    pub fn slots(&self) -> Option<&Slots> {
        let slots = self.slots.get_or_init(|| {
            let folder = self.config.run_folder()?;
            Some(Slots::new(&folder, self.config.local_slots))
        });
        slots.as_ref()
    }

    /// Waits for a slot of this machine.
    pub fn wait_for_slot(&self) -> Option<Slot> {
        self.slots().and_then(Slots::wait)
    }

    /// What memos of this source are about.
    pub fn source_key(&self, found: &Found, plan: &Plan) -> &[u8] {
        self.source_key.get_or_init(|| source_key(found, plan))
    }

    /// It goes to a worker, or to this machine's compiler.
    pub fn begin(&mut self, phase: Phase, place: Origin) {
        self.timeline.enter(phase);
        events::begin(self.config, place);
    }

    /// Writes the line of the event log: the compile is over.
    pub fn log(&self, origin: Origin, reason: &Reason, exit: i32) {
        let (record, timeline) = (&self.record, &self.timeline);
        events::record(self.config, record, timeline, origin, reason, exit);
    }
}

/// Milliseconds since `then`.
pub fn millis_since(then: Instant) -> u64 {
    then.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

/// The command, where it runs, and the source as it is.
fn source_key(found: &Found, plan: &Plan) -> Vec<u8> {
    use std::os::unix::fs::MetadataExt;
    let folder = std::env::current_dir().unwrap_or_default();
    let mut key = os::bytes(folder.as_os_str()).to_vec();
    let driver = os::bytes(found.driver.as_os_str());
    let words = plan.compile.arguments.iter().flat_map(|a| &a.words);
    for word in words.map(Vec::as_slice).chain([driver]) {
        key.push(0);
        key.extend_from_slice(word);
    }
    if let Ok(meta) = std::fs::metadata(os::from_bytes(plan.compile.source.clone())) {
        let times = [meta.mtime(), meta.mtime_nsec(), meta.size().cast_signed()];
        key.extend(times.iter().flat_map(|number| number.to_be_bytes()));
    }
    key
}
