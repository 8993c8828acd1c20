//! The cases that one comparison is about: jobs of an issuer for which nobody acts, or those for which a job of a stated
//! issuer does, and of those the ones of downstream exchanges of tokens for one audience. The claims of an actor are axes of their own, so that what is said of one is proven of the other, too.

use super::shape::{self, Owners, Shape};
use crate::{
    diag::Span,
    lang::{
        pattern::{Lang, PatternError},
        space::Space,
    },
    mapping::{ACTOR, Condition, Deny, Issuer, Origin, Test},
    review::{
        Job,
        boxes::{Axis, BOXES_MAX, Jobs, Undecided, meet},
        world::World,
    },
    workload::Claim,
};

/// Jobs of one issuer, and what the issuer's owners are.
#[derive(Clone, Copy)]
pub(super) struct Of<'w> {
    pub world: &'w World<'w>,
    pub owners: &'w Owners,
    /// The issuer's name.
    pub issuer: &'w str,
}

/// Whose access is compared.
#[derive(Clone, Copy)]
pub(super) struct Universe<'w> {
    pub principal: Of<'w>,
    /// Who acts for them; `None`: nobody.
    pub actor: Option<Of<'w>>,
    /// Of the token of ours that the actor brings; `None`: the job's own token comes.
    pub audience: Option<&'w str>,
}

/// A case that shows something: the job, and the issuer's name of who acts for it with the actor's job.
pub(super) type Shown = (Job, Option<(String, Job)>);

impl Universe<'_> {
    /// What a mapping lets through. `actor`: its rule's conditions, and the actor's issuer.
    pub(super) fn granted(
        &self,
        (issuer, conditions): (&Issuer, Vec<&Condition>),
        actor: Option<(&Issuer, Vec<&Condition>)>,
    ) -> Result<Vec<Jobs>, Undecided> {
        let jobs = granted(self.principal.world, issuer, conditions)?;
        let (Some(of), Some((issuer, conditions))) = (self.actor, actor) else { return Ok(jobs) };
        meet(&jobs, &acting(granted(of.world, issuer, conditions)?)?)
    }

    /// What denies take, each of them of the job (`false`) or of who acts for it.
    pub(super) fn denied(&self, denies: &[(bool, &Deny)]) -> Result<Vec<Jobs>, Undecided> {
        let mut boxes = Vec::new();
        for (acts, deny) in denies {
            match (acts, self.actor) {
                (false, _) => boxes.extend(self.principal.world.denied(&deny.conditions)?),
                (true, Some(of)) => boxes.extend(acting(of.world.denied(&deny.conditions)?)?),
                (true, None) => {}
            }
            if boxes.len() > BOXES_MAX {
                return Err(Undecided::Boxes);
            }
        }
        Ok(boxes)
    }

    /// A case of this box; `None`: there is none.
    pub(super) fn example(&self, jobs: &Jobs) -> Result<Option<Shown>, Undecided> {
        let [own, acting] = split(jobs)?;
        let Some(job) = shape::example(self.principal.world, self.principal.owners, &own)? else { return Ok(None) };
        let Some(of) = self.actor else { return Ok(Some((job, None))) };
        let actor = shape::example(of.world, of.owners, &acting)?;
        Ok(actor.map(|actor| (job, Some((of.issuer.to_owned(), actor)))))
    }

    /// The box in words.
    pub(super) fn shape(&self, jobs: &Jobs, issuers: [Option<&Issuer>; 2], pinned: bool) -> Shape {
        let Ok([own, acting]) = split(jobs) else { return Shape::new() };
        let mut shape = shape::of(&own, issuers[0], pinned);
        if let Some(of) = self.actor {
            shape.push((format!("{ACTOR}.issuer"), format!("`{}`", of.issuer)));
            shape.extend(self.audience.map(|audience| (format!("{ACTOR}.audience"), format!("`{audience}`"))));
            let words = shape::of(&acting, issuers[1], false);
            shape.extend(words.into_iter().map(|(claim, words)| (format!("{ACTOR}.{claim}"), words)));
        }
        shape
    }
}

/// Jobs of others are refused before any mapping is looked at: as a condition of all grants.
pub(super) fn ours(issuer: &Issuer) -> Option<Condition> {
    if !issuer.multi_tenant {
        return None;
    }
    let (claim, values): (_, Vec<&str>) = match issuer.pin {
        Some(pin) => (pin, issuer.pinned.iter().map(String::as_str).collect()),
        None => (Claim::RepositoryOwnerId, issuer.owners.values().map(String::as_str).collect()),
    };
    Some(Condition {
        claim: claim.into(),
        test: Test::Text(Lang::one_of(values, false)),
        if_unknown_ignore: false,
        origin: Origin::File,
        span: Span::new("policy.toml", 0..0),
    })
}

fn granted(world: &World<'_>, issuer: &Issuer, conditions: Vec<&Condition>) -> Result<Vec<Jobs>, Undecided> {
    // A mapping that lists the pin's values itself can let no stranger through: they are where the list is from.
    let pins = |condition: &&Condition| match &condition.test {
        Test::Text(lang) => issuer.pin.is_some_and(|pin| condition.claim == pin) && lang.members().is_some(),
        test => test.repositories().is_some() && issuer.pin == Some(Claim::RepositoryId),
    };
    let ours = if conditions.iter().any(pins) { None } else { ours(issuer) };
    world.granted(conditions.into_iter().chain(&ours))
}

/// Boxes of jobs as boxes of who acts.
fn acting(boxes: Vec<Jobs>) -> Result<Vec<Jobs>, PatternError> {
    let of_actor = |(axis, domain): (Axis, &_)| (Axis::Actor(Box::new(axis)), Clone::clone(domain));
    boxes.iter().map(|jobs| Space::of(jobs.iter().map(of_actor))).collect()
}

/// A box as the jobs in it, and those that act for them.
fn split(jobs: &Jobs) -> Result<[Jobs; 2], PatternError> {
    let (mut own, mut acting) = (Jobs::default(), Jobs::default());
    for (axis, domain) in jobs.iter() {
        match axis {
            Axis::Actor(axis) => acting.narrow(*axis, domain)?,
            axis => own.narrow(axis, domain)?,
        }
    }
    Ok([own, acting])
}
