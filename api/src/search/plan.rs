//! The rows that a search looks at: of one term where all parts of a filter have to match, of all
//! terms where one of them has to.

use std::iter::Peekable;

use lamplighter_contracts::devices;
use lamplighter_state::tables::{self, DeviceTerm};
use lamplighter_state::{StateError, View};
use lamplighter_types::filter::{Comparison, DeviceField, FieldValue, Filter, Operator};
use lamplighter_types::{DeviceStatus, Id};

use super::Search;

/// Rows of a term that are counted to compare it with others.
const ROWS_COUNTED: usize = 256;
/// Small rows that a page looks at, at most: some milliseconds.
const ROWS_MAX: usize = 20_000;
/// Rows of an index of the state that are read at once.
const INDEX_PAGE: usize = 256;

/// A set of rows in the order of the devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Term(DeviceTerm),
    Gateway(Id),
    Owner(Id),
    One(Id),
    /// All devices, looked at by the time at which they were last seen.
    Seen(Vec<Comparison>),
    All,
    /// The rows of all of these.
    Union(Vec<Plan>),
}

/// A row that was looked at.
pub(super) struct Candidate {
    pub device: Id,
    /// False if the row alone says that the device does not match.
    pub is_wanted: bool,
}

/// The rows that a page may still look at.
pub(super) struct RowBudget(usize);

impl RowBudget {
    pub fn new() -> Self {
        Self(ROWS_MAX)
    }

    pub fn remains(&self) -> bool {
        self.0 > 0
    }
}

impl Plan {
    /// Chooses the rows for a filter and for what the account may read.
    ///
    /// A reader of a part looks at the rows of its devices alone, even if the filter has fewer:
    /// where a page ends then depends on nothing outside of that part.
    pub fn of(
        search: &Search<'_>,
        scope: Option<&Filter>,
        after: Option<&Id>,
    ) -> Result<Self, StateError> {
        let Some(scope) = scope else {
            let best = search.filter.map(|f| Self::for_filter(search, f, after));
            return Ok(best.transpose()?.flatten().unwrap_or(Self::All));
        };
        if let Some(named) = search.filter.and_then(Self::for_names) {
            return Ok(named);
        }
        let rows = Self::for_filter(search, scope, after)?;
        Ok(rows.unwrap_or(Self::Union(Vec::new())))
    }

    /// The rows of a filter that names its devices: so few that no page ends before the last.
    fn for_names(filter: &Filter) -> Option<Self> {
        match filter {
            Filter::Comparison(comparison) if comparison.field == DeviceField::Device => {
                Self::for_comparison(comparison)
            }
            Filter::Comparison(_) => None,
            Filter::Any(parts) => {
                let named: Option<_> = parts.iter().map(Self::for_names).collect();
                named.map(Self::Union)
            }
            Filter::All(parts) => parts.iter().find_map(Self::for_names),
        }
    }

    fn for_filter(
        search: &Search<'_>,
        filter: &Filter,
        after: Option<&Id>,
    ) -> Result<Option<Self>, StateError> {
        let plan = |part| Self::for_filter(search, part, after);
        match filter {
            Filter::Comparison(comparison) => Ok(Self::for_comparison(comparison)),
            Filter::Any(parts) => {
                let plans = parts.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
                let plans: Option<Vec<_>> = plans.into_iter().collect();
                Ok(plans.map(Self::Union))
            }
            Filter::All(parts) => {
                let plans = parts.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
                smallest(search.view, plans.into_iter().flatten().collect(), after)
            }
        }
    }

    fn for_comparison(comparison: &Comparison) -> Option<Self> {
        let Comparison {
            field,
            operator,
            value,
        } = comparison;
        if *field == DeviceField::LastSeen {
            return Some(Self::Seen(vec![comparison.clone()]));
        }
        if *operator != Operator::Equal {
            return None;
        }
        let id = |text: &str| Id::new(text).ok();
        Some(match (field, value) {
            (DeviceField::Device, FieldValue::Text(text)) => match id(text) {
                Some(device) => Self::One(device),
                None => Self::Union(Vec::new()),
            },
            (DeviceField::Gateway, FieldValue::Text(text)) => match id(text) {
                Some(gateway) => Self::Gateway(gateway),
                None => Self::Union(Vec::new()),
            },
            (DeviceField::Owner, FieldValue::Text(text)) => match id(text) {
                Some(owner) => Self::Owner(owner),
                None => Self::Union(Vec::new()),
            },
            _ => Self::Term(term(field, value)?),
        })
    }

    /// The rows after the device `after`, in the order of the devices.
    pub fn candidates<'a>(
        &self,
        view: &'a View,
        after: Option<&Id>,
        now_ms: u64,
    ) -> Result<Candidates<'a>, StateError> {
        let mut sources = Vec::new();
        self.add_sources(view, after, now_ms, &mut sources)?;
        Ok(Candidates {
            sources: sources.into_iter().map(Iterator::peekable).collect(),
        })
    }

    fn add_sources<'a>(
        &self,
        view: &'a View,
        after: Option<&Id>,
        now_ms: u64,
        sources: &mut Vec<Rows<'a>>,
    ) -> Result<(), StateError> {
        let store = &**view.store();
        let rows: Rows<'a> = match self {
            Self::Union(plans) => {
                return plans
                    .iter()
                    .try_for_each(|plan| plan.add_sources(view, after, now_ms, sources));
            }
            Self::Term(term) => Box::new(tables::devices_with(store, term, after)?.map(wanted)),
            Self::Gateway(gateway) => {
                let gateway = gateway.clone();
                let page = move |after: Option<&Id>| {
                    devices::names_by_gateway(view, &gateway, after, INDEX_PAGE)
                };
                Box::new(paged(page, after.cloned()))
            }
            Self::Owner(owner) => {
                let owner = owner.clone();
                let page = move |after: Option<&Id>| {
                    devices::names_by_owner(view, &owner, after, INDEX_PAGE)
                };
                Box::new(paged(page, after.cloned()))
            }
            Self::One(device) => {
                let is_after = after.is_none_or(|after| device > after);
                Box::new(is_after.then(|| wanted(Ok(device.clone()))).into_iter())
            }
            Self::Seen(comparisons) => {
                let bounds: Vec<_> = comparisons
                    .iter()
                    .filter_map(|c| Some((c.operator, c.value.time_ms(now_ms)?)))
                    .collect();
                Box::new(tables::all_seen(store, after)?.map(move |row| {
                    let (device, seen) = row?;
                    let is_wanted = bounds
                        .iter()
                        .all(|(operator, bound)| operator.holds(seen.time_ms.cmp(bound)));
                    Ok(Candidate { device, is_wanted })
                }))
            }
            Self::All => Box::new(tables::all_seen(store, after)?.map(|row| {
                let (device, _) = row?;
                wanted(Ok(device))
            })),
        };
        sources.push(rows);
        Ok(())
    }

    /// The number of rows up to [`ROWS_COUNTED`]; more where all devices have to be looked at.
    fn count(&self, view: &View, after: Option<&Id>) -> Result<usize, StateError> {
        match self {
            Self::One(_) => Ok(1),
            Self::Seen(_) => Ok(ROWS_COUNTED + 1),
            Self::All => Ok(ROWS_COUNTED + 2),
            Self::Union(plans) => {
                let mut sum: usize = 0;
                for plan in plans {
                    sum = sum.saturating_add(plan.count(view, after)?);
                }
                Ok(sum)
            }
            Self::Term(_) | Self::Gateway(_) | Self::Owner(_) => {
                let mut rows = Vec::new();
                self.add_sources(view, after, 0, &mut rows)?;
                let mut count = 0;
                for row in rows.into_iter().flatten().take(ROWS_COUNTED) {
                    row?;
                    count += 1;
                }
                Ok(count)
            }
        }
    }
}

/// The terms that each device of a filter has.
pub(super) fn terms_of_all(filter: &Filter) -> Vec<DeviceTerm> {
    match filter {
        Filter::Comparison(comparison) => match Plan::for_comparison(comparison) {
            Some(Plan::Term(term)) => vec![term],
            _ => Vec::new(),
        },
        Filter::Any(_) => Vec::new(),
        Filter::All(parts) => parts.iter().flat_map(terms_of_all).collect(),
    }
}

/// The plan with the fewest rows.
fn smallest(
    view: &View,
    mut plans: Vec<Plan>,
    after: Option<&Id>,
) -> Result<Option<Plan>, StateError> {
    if plans.len() < 2 {
        return Ok(plans.pop());
    }
    let mut best: Option<(usize, Plan)> = None;
    for plan in plans {
        let count = plan.count(view, after)?;
        if best.as_ref().is_none_or(|(least, _)| count < *least) {
            best = Some((count, plan));
        }
    }
    Ok(best.map(|(_, plan)| plan))
}

/// The term of an equality, if devices are found by it.
fn term(field: &DeviceField, value: &FieldValue) -> Option<DeviceTerm> {
    let id = |text: &String| Id::new(text).ok();
    Some(match (field, value) {
        (DeviceField::Model, FieldValue::Text(model)) => DeviceTerm::Model(model.clone()),
        (DeviceField::HardwareClass, FieldValue::Text(class)) => {
            DeviceTerm::HardwareClass(class.clone())
        }
        (DeviceField::District, FieldValue::District(district))
            if !district.as_str().is_empty() =>
        {
            DeviceTerm::District(district.clone())
        }
        (DeviceField::Tag(name), FieldValue::Text(value)) => {
            DeviceTerm::Tag(name.clone(), value.clone())
        }
        (DeviceField::Status, FieldValue::Status(DeviceStatus::Suspended)) => DeviceTerm::Suspended,
        (DeviceField::Status, FieldValue::Status(DeviceStatus::Decommissioned)) => {
            DeviceTerm::Decommissioned
        }
        (DeviceField::Drifted, FieldValue::Flag(true)) => DeviceTerm::Drifted,
        (DeviceField::Release, FieldValue::Text(release)) => DeviceTerm::Release(id(release)?),
        (DeviceField::Rollout, FieldValue::Text(rollout)) => DeviceTerm::Rollout(id(rollout)?),
        (DeviceField::Version, FieldValue::Version(version)) => DeviceTerm::Version(*version),
        (DeviceField::Config, FieldValue::Hash(document)) => DeviceTerm::Config(*document),
        (DeviceField::Alarm, FieldValue::Text(kind)) => DeviceTerm::Alarm(kind.clone()),
        (DeviceField::Alarm, FieldValue::Beginning(_)) => DeviceTerm::AnyAlarm,
        _ => return None,
    })
}

type Row = Result<Candidate, StateError>;
type Rows<'a> = Box<dyn Iterator<Item = Row> + 'a>;

fn wanted(device: Result<Id, StateError>) -> Row {
    Ok(Candidate {
        device: device?,
        is_wanted: true,
    })
}

/// The rows of an index of the state, some at a time.
fn paged<'a>(
    mut page: impl FnMut(Option<&Id>) -> Result<Vec<Id>, StateError> + 'a,
    after: Option<Id>,
) -> impl Iterator<Item = Row> + 'a {
    let mut after = after;
    let mut is_over = false;
    let mut pages = std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let read = page(after.as_ref());
        match &read {
            Ok(names) => {
                is_over = names.len() < INDEX_PAGE;
                after = names.last().cloned();
            }
            Err(_) => is_over = true,
        }
        Some(read)
    });
    let mut names = Vec::new().into_iter();
    std::iter::from_fn(move || {
        loop {
            if let Some(name) = names.next() {
                return Some(wanted(Ok(name)));
            }
            match pages.next()? {
                Ok(page) => names = page.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    })
}

/// The rows of all sources in the order of the devices, each device once.
pub(super) struct Candidates<'a> {
    sources: Vec<Peekable<Rows<'a>>>,
}

impl Candidates<'_> {
    /// The next device.
    pub fn next(&mut self, budget: &mut RowBudget) -> Result<Option<Candidate>, StateError> {
        let mut first: Option<Id> = None;
        for source in &mut self.sources {
            if matches!(source.peek(), Some(Err(_))) {
                // The error itself is taken out below.
                return source.next().transpose();
            }
            if let Some(Ok(candidate)) = source.peek()
                && first.as_ref().is_none_or(|first| candidate.device < *first)
            {
                first = Some(candidate.device.clone());
            }
        }
        let Some(device) = first else {
            return Ok(None);
        };
        let mut is_wanted = false;
        for source in &mut self.sources {
            let is_same = |row: &Row| matches!(row, Ok(row) if row.device == device);
            if let Some(row) = source.next_if(is_same) {
                is_wanted |= row?.is_wanted;
                budget.0 = budget.0.saturating_sub(1);
            }
        }
        Ok(Some(Candidate { device, is_wanted }))
    }
}
