//! Who may take a claim: the rule that all stores share.

use aedile_core::Timestamp;
use aedile_core::store::{ClaimRequest, Fence, StoreError};

/// What is known of a claim's name. It stays after the claim was given back, so that its number only grows.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Who holds it, if somebody does.
    pub(crate) holder: Option<String>,
    /// The last number that was given.
    pub(crate) number: u64,
    /// When it ends unless it is renewed.
    pub(crate) expires: Timestamp,
}

/// Returns the claim as it is after the request was granted.
pub(crate) fn take(current: Option<&Claim>, request: &ClaimRequest, now: Timestamp) -> Result<Claim, StoreError> {
    if let Some(Claim { holder: Some(holder), expires, .. }) = current {
        let free = *expires <= now || *holder == request.holder || request.dead.contains(holder);
        if !free {
            return Err(StoreError::Claimed { name: request.name.clone(), holder: holder.clone(), expires: *expires });
        }
    }
    let number = current.map_or(0, |claim| claim.number) + 1;
    Ok(Claim { holder: Some(request.holder.clone()), number, expires: now.plus(request.ttl) })
}

/// Whether the fence is that of the claim. A claim that expired and that nobody took is still good.
pub(crate) fn holds(current: Option<&Claim>, fence: &Fence) -> bool {
    current.is_some_and(|claim| claim.holder.is_some() && claim.number == fence.number)
}
