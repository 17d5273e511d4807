//! Messages as JSON, each field under its name in `build.proto`: what the coordinator's
//! pages and `hgbuild workers --json` have in common.

use serde_json::{Value, json};

use crate::secure::tls::hex;
use crate::v1;

/// A worker, its toolchains in it.
pub fn worker(worker: &v1::Worker) -> Value {
    let toolchains: Vec<Value> = worker.toolchains.iter().map(toolchain).collect();
    json!({
        "id": worker.id,
        "name": worker.name,
        "address": worker.address,
        "version": worker.version,
        "architecture": worker.architecture,
        "os": worker.os,
        "cores": worker.cores,
        "memory_bytes": worker.memory_bytes,
        "memory_available_bytes": worker.memory_available_bytes,
        "slots": worker.slots,
        "running": worker.running,
        "load_milli": worker.load_milli,
        "temperature_milli_c": worker.temperature_milli_c,
        "round_trip_us": worker.round_trip_us,
        "draining": worker.draining,
        "tasks_finished": worker.tasks_finished,
        "tasks_failed": worker.tasks_failed,
        "toolchains": toolchains,
        "connected_ms": worker.connected_ms,
        "circuit": worker.circuit,
        "shut_for_holders": worker.shut_for_holders,
        "speed_milli": worker.speed_milli,
        "slots_now": worker.slots_now,
        "slots_why": worker.slots_why,
        "sandbox": worker.sandbox,
        "out": worker.out,
    })
}

fn toolchain(toolchain: &v1::Toolchain) -> Value {
    let family = match toolchain.family() {
        v1::Family::Gcc => "gcc",
        v1::Family::Clang => "clang",
        v1::Family::Unspecified => "",
    };
    let language = match toolchain.language() {
        v1::Language::C => "c",
        v1::Language::Cxx => "cxx",
        v1::Language::Unspecified => "",
    };
    json!({
        "family": family,
        "version": toolchain.version,
        "target": toolchain.target,
        "language": language,
        "digest": hex(&toolchain.digest),
        "tree": toolchain.tree,
        "shipped": !toolchain.shipment.is_empty(),
    })
}
