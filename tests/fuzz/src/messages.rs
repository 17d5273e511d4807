//! Every message of the contract: any bytes decode or don't, and what decodes
//! is the same after another round.

#![no_main]

use hg_proto::v1;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fn round<M: Message + Default + PartialEq>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let again = message.encode_to_vec();
        assert_eq!(again.len(), message.encoded_len());
        assert!(M::decode(&again[..]).is_ok_and(|second| second == message));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 16 {
        0 => round::<v1::FromWorker>(bytes),
        1 => round::<v1::ToWorker>(bytes),
        2 => round::<v1::SubmitRequest>(bytes),
        3 => round::<v1::SubmitResponse>(bytes),
        4 => round::<v1::Task>(bytes),
        5 => round::<v1::TaskResult>(bytes),
        6 => round::<v1::Failure>(bytes),
        7 => round::<v1::Hello>(bytes),
        8 => round::<v1::ReportCacheHitRequest>(bytes),
        9 => round::<v1::GetStatusResponse>(bytes),
        10 => round::<v1::ListWorkersResponse>(bytes),
        11 => round::<v1::Event>(bytes),
        12 => round::<v1::DrainWorkerRequest>(bytes),
        13 => round::<v1::DrainWorkerResponse>(bytes),
        14 => {
            round::<v1::GetStatusRequest>(bytes);
            round::<v1::ListWorkersRequest>(bytes);
            round::<v1::WatchEventsRequest>(bytes);
            round::<v1::ReportCacheHitResponse>(bytes);
        }
        _ => round::<v1::Heartbeat>(bytes),
    }
});
