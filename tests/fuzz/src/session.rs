//! Whatever a coordinator says, and however time passes meanwhile: the worker's
//! session keeps its bounds, speaks of no job that it does not have, and never asks
//! to be woken at once.

#![no_main]

mod mended;

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::time::{Duration, Instant};

use hg_proto::compiler::shipment;
use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::v1::{self, Hello, ToWorker};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::frame;
use hg_proto::wire::limits::CHUNK_BYTES_MAX;
use hg_worker_lite::inputs::layout::Tools;
use hg_worker_lite::link::session::{Action, Event, JobId, Session};
use hg_worker_lite::machine::admission::{PREFETCHED_TASKS_MAX, Vitals};
use hg_worker_lite::tasks::toolchains::{Catalogue, Compiler};
use libfuzzer_sys::fuzz_target;
use prost::Message;

const SLOTS: u32 = 2;
/// Events in a row that one event may lead to.
const FOLLOWING_MAX: usize = 64;

const WELL: Vitals = Vitals {
    load_milli: 0,
    memory_available_bytes: Some(8 << 30),
    disk_free_bytes: Some(8 << 30),
    temperature_milli_c: 0,
    compiling: 0,
    memory_pressure_centi: 0,
    throttled: false,
    others_milli: 0,
};

fn digest() -> Digest {
    match Digest::try_from(&[7; 32][..]) {
        Ok(digest) => digest,
        Err(error) => panic!("{error}"),
    }
}

fn catalogue() -> Catalogue {
    let compiler = Compiler {
        driver: "/usr/bin/gcc".into(),
        family: Family::Gcc,
        language: Language::C,
        path_first: None,
        tools: Tools::Own(Vec::new()),
        toolchain: v1::Toolchain {
            digest: digest().as_bytes().to_vec(),
            ..v1::Toolchain::default()
        },
    };
    Catalogue::from([(digest(), compiler)])
}

/// A worker around the session, which does what it is told.
struct Worker {
    session: Session,
    now: Instant,
    /// Jobs that were begun and have not ended; whether they were cancelled.
    jobs: BTreeMap<JobId, bool>,
}

impl Worker {
    fn tell(&mut self, event: Event) {
        let mut open = vec![event];
        for _ in 0..FOLLOWING_MAX {
            let Some(event) = open.pop() else {
                return;
            };
            if let Event::JobEnded { id, .. } = event {
                self.jobs.remove(&id);
            }
            for action in self.session.handle(self.now, &WELL, event) {
                open.extend(self.perform(action));
            }
            assert_eq!(self.session.jobs(), self.jobs.len());
            assert!(self.jobs.len() <= SLOTS as usize + PREFETCHED_TASKS_MAX);
            let wake = self.session.next_wake();
            assert!(wake.is_none_or(|wake| wake > self.now), "woken at once");
        }
        panic!("it never comes to rest");
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Dial => return Some(Event::Dialled("token".into())),
            Action::Rescan => return Some(Event::Toolchains(catalogue())),
            Action::Send(message) => assert!(frame::encode(&message).is_ok()),
            Action::Begin { id, order, .. } => {
                let before = self.jobs.insert(id, false);
                assert_eq!(before, None, "begun twice");
                let inputs = order.inputs.iter().map(|input| input.path.as_path());
                let outputs = order.outputs.iter().map(AsRef::as_ref);
                let all = inputs
                    .chain(outputs)
                    .chain([order.working_directory.as_path()]);
                let inside = |path: &Path| {
                    let mut parts = path.components();
                    parts.all(|part| matches!(part, Component::Normal(_)))
                };
                assert!(all.into_iter().all(inside));
            }
            Action::Take { id, delivery } => {
                let before = self.jobs.insert(id, false);
                assert_eq!(before, None, "begun twice");
                assert_eq!(shipment::check(&delivery.list), Ok(()));
            }
            Action::Deliver(id, chunk) => {
                assert_eq!(self.jobs.get(&id), Some(&false));
                assert!(chunk.data.len() <= CHUNK_BYTES_MAX);
            }
            Action::Credit(id, _) => assert!(self.jobs.contains_key(&id)),
            Action::Cancel(id, _) => {
                let before = self.jobs.insert(id, true);
                assert_eq!(before, Some(false), "cancelled twice, or never begun");
            }
            Action::SetCapacity(bears) => assert!(bears.slots <= SLOTS),
            Action::Log(_, text) => assert!(text.len() < 8 << 10),
            Action::SendMetrics
            | Action::KeepToken(_)
            | Action::Drop
            | Action::HangUp
            | Action::Finish => {}
        }
        None
    }

    fn event(&mut self, kind: u8, bytes: &[u8]) -> Option<Event> {
        let number = bytes.first().copied().unwrap_or_default();
        Some(match kind % 16 {
            0..=9 => {
                let mut message = ToWorker::decode(bytes).ok()?;
                if kind < 128
                    && let Some(v1::to_worker::Kind::Dispatch(dispatch)) = &mut message.kind
                {
                    mend(dispatch.task.get_or_insert_default());
                }
                Event::Message(Box::new(message))
            }
            10..=12 => {
                let ms = Duration::from_millis(u64::from(number) * 50);
                self.now += ms;
                Event::Tick
            }
            13 => {
                let at = usize::from(number) % self.jobs.len().max(1);
                Event::JobEnded {
                    id: *self.jobs.keys().nth(at)?,
                    compiler_gone: (number > 250).then(digest),
                }
            }
            14 if number > 200 => Event::Signal,
            _ => Event::LinkLost("lost".into()),
        })
    }
}

fn mend(task: &mut v1::Task) {
    task.toolchain.get_or_insert_default().digest = digest().as_bytes().to_vec();
    mended::mend(task, &[1; 32]);
}

fuzz_target!(|data: &[u8]| {
    let hello = Hello {
        slots: SLOTS,
        // Tasks that are mended reach it, and some of them bring a toolchain.
        shipping: digest().as_bytes().to_vec(),
        ..Hello::default()
    };
    let mut worker = Worker {
        session: Session::new(hello, 1),
        now: Instant::now(),
        jobs: BTreeMap::new(),
    };
    worker.tell(Event::Toolchains(catalogue()));
    let mut rest = data;
    // One byte says what happens, one how many bytes are about that.
    while let [kind, len, after @ ..] = rest {
        let (bytes, later) = after.split_at(usize::from(*len).min(after.len()));
        rest = later;
        if let Some(event) = worker.event(*kind, bytes) {
            worker.tell(event);
        }
    }
});
