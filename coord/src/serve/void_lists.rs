//! Whose results are void is told from one coordinator to the others that share its backend.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::backend::client::Backend;
use crate::bounds::VOID_LOOK_MS;
use crate::dispatch::hub::Hub;
use crate::log;
use crate::results::store::Store;

/// Looks what others have found out, and tells them what was found out here; for ever.
pub async fn share(hub: Arc<Hub>) {
    let (Some(store), Some(backend)) = (hub.results.get(), hub.backend.get()) else {
        return;
    };
    let mut changes = hub.audits_changed.subscribe();
    loop {
        exchange(store, backend).await;
        // What is found out here is told at once.
        let _ = timeout(Duration::from_millis(VOID_LOOK_MS), changes.changed()).await;
    }
}

/// Of two that write at once one is overwritten, and writes again after its next look.
async fn exchange(store: &Arc<Store>, backend: &Arc<Backend>) {
    let Ok(theirs) = backend.void_list().await else {
        return;
    };
    let store = store.clone();
    let merge = move || {
        let theirs = theirs.as_deref().unwrap_or(b"[]");
        let says_more = store.add_void(theirs)?;
        let list = says_more.then(|| store.void_list());
        list.transpose()
    };
    match tokio::task::spawn_blocking(merge).await {
        Ok(Ok(Some(list))) => backend.leave_void_list(&list).await,
        Ok(Err(error)) => log::warn(format_args!("whose results are void elsewhere: {error}")),
        _ => {}
    }
}
