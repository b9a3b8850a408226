//! The claim that makes one queue per target: taken while there is something to land, renewed, and its fence on every append.

use std::sync::Arc;

use aedile_core::limits::{LEASE, LEASE_RENEW_EVERY};
use aedile_core::store::{ClaimRequest, Fence, Store, StoreError};
use aedile_core::view::RunView;

use crate::LandingError;

/// The claim on one target, renewed until it is dropped or released.
pub(crate) struct Hold {
    store: Arc<dyn Store>,
    fence: Fence,
    renewer: tokio::task::JoinHandle<()>,
}

impl Hold {
    /// Takes the claim of the run's target; `None` while another worker has it.
    pub(crate) async fn take(store: &Arc<dyn Store>, run: &RunView, holder: &str, dead: &[String]) -> Result<Option<Self>, LandingError> {
        let request = ClaimRequest {
            name: format!("landing/{}/{}", run.project, run.landing_ref),
            holder: holder.to_owned(),
            ttl: LEASE,
            dead: dead.to_vec(),
        };
        let asked = Arc::clone(store);
        let claimed = tokio::task::spawn_blocking(move || asked.claim(&request)).await?;
        let fence = match claimed {
            Ok(fence) => fence,
            Err(StoreError::Claimed { name, holder, .. }) => {
                tracing::debug!(%name, %holder, "another worker lands on this target");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let renewer = tokio::spawn(renew(Arc::clone(store), fence.clone()));
        Ok(Some(Self { store: Arc::clone(store), fence, renewer }))
    }

    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Gives the claim back.
    pub(crate) async fn release(self) -> Result<(), LandingError> {
        self.renewer.abort();
        let (store, fence) = (Arc::clone(&self.store), self.fence.clone());
        tokio::task::spawn_blocking(move || store.release(&fence)).await??;
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.renewer.abort();
    }
}

/// Ends when the claim is lost: from then on the store refuses every append under it.
async fn renew(store: Arc<dyn Store>, fence: Fence) {
    loop {
        tokio::time::sleep(LEASE_RENEW_EVERY).await;
        let (renewed, claim) = (Arc::clone(&store), fence.clone());
        match tokio::task::spawn_blocking(move || renewed.renew(&claim, LEASE)).await {
            Ok(Err(StoreError::Fenced(_))) | Err(_) => return,
            Ok(Err(error)) => tracing::warn!(%error, claim = %fence.claim, "the claim could not be renewed; trying again"),
            Ok(Ok(())) => {}
        }
    }
}
