//! From text to a checked filter, with bounds on length, depth and comparisons.

use std::str::FromStr;

use super::lexer::{Lexer, Value, Word};
use super::{
    Comparison, DeviceField, FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_TERMS_MAX, FieldValue,
    Filter, FilterError, FilterFault, Operator,
};
use crate::limits::NUMBER_MAX;
use crate::{DeviceStatus, Scope};

/// The word for a field without a value.
const NOTHING: &str = "none";

pub(super) fn parse(text: &str) -> Result<Filter, FilterError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        depth: 0,
        terms: 0,
    };
    if text.len() > FILTER_BYTES_MAX {
        return Err(FilterError {
            position: text.floor_char_boundary(FILTER_BYTES_MAX) + 1,
            fault: FilterFault::TooLong { got: text.len() },
        });
    }
    let filter = parser.any()?;
    parser.lexer.skip_blanks();
    match parser.lexer.peek() {
        None => Ok(filter),
        Some(got) => {
            let wanted = "`;`, `,` or the end";
            Err(parser.lexer.error(FilterFault::Unexpected { got, wanted }))
        }
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    depth: usize,
    terms: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Filter, FilterError> {
        let mut parts = vec![self.all()?];
        while self.lexer.accept_word("or") || self.lexer.accept(',') {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Filter::Any))
    }

    fn all(&mut self) -> Result<Filter, FilterError> {
        let mut parts = vec![self.part()?];
        while self.lexer.accept_word("and") || self.lexer.accept(';') {
            parts.push(self.part()?);
        }
        Ok(one_or(parts, Filter::All))
    }

    fn part(&mut self) -> Result<Filter, FilterError> {
        if !self.lexer.accept('(') {
            return self.comparison();
        }
        self.depth += 1;
        if self.depth > FILTER_DEPTH_MAX {
            return Err(self.lexer.error(FilterFault::TooDeep));
        }
        let inner = self.any()?;
        self.close()?;
        self.depth -= 1;
        Ok(inner)
    }

    fn close(&mut self) -> Result<(), FilterError> {
        if self.lexer.accept(')') {
            return Ok(());
        }
        self.lexer.skip_blanks();
        let wanted = "a closing bracket";
        Err(self.lexer.error(match self.lexer.peek() {
            None => FilterFault::Missing { wanted },
            Some(got) => FilterFault::Unexpected { got, wanted },
        }))
    }

    fn comparison(&mut self) -> Result<Filter, FilterError> {
        let name = self.lexer.name()?;
        let field = DeviceField::parse(&name.text).ok_or_else(|| FilterError {
            position: name.position,
            fault: FilterFault::UnknownField(name.text.clone()),
        })?;
        self.lexer.skip_blanks();
        let position = self.lexer.position();
        let (operator, is_list) = match self.lexer.operator()? {
            Word::Compare(operator) => (operator, false),
            Word::In => (Operator::Equal, true),
            Word::Out => (Operator::NotEqual, true),
        };
        check_operator(&field, operator).map_err(|fault| FilterError { position, fault })?;
        let values = if is_list {
            self.list()?
        } else {
            vec![self.lexer.value()?]
        };
        let mut parts = Vec::with_capacity(values.len());
        for value in values {
            self.terms += 1;
            let position = value.position;
            let failed = |fault| FilterError { position, fault };
            if self.terms > FILTER_TERMS_MAX {
                return Err(failed(FilterFault::TooMany));
            }
            parts.push(Filter::Comparison(Comparison {
                field: field.clone(),
                operator,
                value: field_value(&field, operator, &value).map_err(failed)?,
            }));
        }
        Ok(match operator {
            Operator::NotEqual => one_or(parts, Filter::All),
            _ => one_or(parts, Filter::Any),
        })
    }

    fn list(&mut self) -> Result<Vec<Value>, FilterError> {
        if !self.lexer.accept('(') {
            let wanted = "an opening bracket";
            return Err(self.lexer.error(FilterFault::Missing { wanted }));
        }
        let mut values = vec![self.lexer.value()?];
        while self.lexer.accept(',') {
            values.push(self.lexer.value()?);
        }
        self.close()?;
        Ok(values)
    }
}

fn one_or(mut parts: Vec<Filter>, many: impl FnOnce(Vec<Filter>) -> Filter) -> Filter {
    match parts.len() {
        1 => parts.remove(0),
        _ => many(parts),
    }
}

fn check_operator(field: &DeviceField, operator: Operator) -> Result<(), FilterFault> {
    let is_equality = matches!(operator, Operator::Equal | Operator::NotEqual);
    let usable = match field {
        DeviceField::Version if is_equality => return Ok(()),
        DeviceField::Version | DeviceField::LastSeen if !is_equality => return Ok(()),
        DeviceField::LastSeen => "=lt= =le= =gt= =ge=",
        _ if is_equality => return Ok(()),
        _ => "== != =in= =out=",
    };
    Err(FilterFault::Operator {
        field: field.to_string(),
        usable,
    })
}

fn field_value(
    field: &DeviceField,
    operator: Operator,
    value: &Value,
) -> Result<FieldValue, FilterFault> {
    let text = value.text.as_str();
    let is_equality = matches!(operator, Operator::Equal | Operator::NotEqual);
    let is_nothing = text == NOTHING && !value.is_quoted && is_equality;
    let (read, wanted) = match field {
        DeviceField::District => (
            text.parse::<Scope>().ok().map(FieldValue::District),
            "a district, as north/harbour",
        ),
        DeviceField::Status => (
            status(text).map(FieldValue::Status),
            "active, suspended or decommissioned",
        ),
        DeviceField::Drifted | DeviceField::ConfigApplied => {
            (text.parse().ok().map(FieldValue::Flag), "true or false")
        }
        DeviceField::Version if !is_nothing => (
            text.parse().ok().map(FieldValue::Version),
            "a version, as 1.4.0",
        ),
        DeviceField::Config if !is_nothing => (
            text.parse().ok().map(FieldValue::Hash),
            "64 hexadecimal digits",
        ),
        DeviceField::LastSeen => (
            time(text),
            "Unix time in ms, or a time before now as -24h, -30m, -7d",
        ),
        _ if is_nothing => (Some(FieldValue::Nothing), ""),
        DeviceField::Device
        | DeviceField::Model
        | DeviceField::HardwareClass
        | DeviceField::Tag(_)
        | DeviceField::Owner
        | DeviceField::Gateway
        | DeviceField::Release
        | DeviceField::Rollout
        | DeviceField::Alarm
        | DeviceField::Version
        | DeviceField::Config => (Some(text_value(value)), ""),
    };
    read.ok_or_else(|| FilterFault::Value {
        field: field.to_string(),
        value: text.to_owned(),
        wanted,
    })
}

fn text_value(value: &Value) -> FieldValue {
    match value.text.strip_suffix('*').filter(|_| !value.is_quoted) {
        Some(beginning) => FieldValue::Beginning(beginning.to_owned()),
        None => FieldValue::Text(value.text.clone()),
    }
}

fn status(text: &str) -> Option<DeviceStatus> {
    Some(match text {
        "active" => DeviceStatus::Active,
        "suspended" => DeviceStatus::Suspended,
        "decommissioned" => DeviceStatus::Decommissioned,
        _ => return None,
    })
}

/// A time: Unix ms, or a number of minutes, hours or days before the newest block.
fn time(text: &str) -> Option<FieldValue> {
    let Some(ago) = text.strip_prefix('-') else {
        let ms = number(text)?;
        return Some(FieldValue::Time(ms));
    };
    let unit = ago.chars().next_back()?;
    let unit_ms = match unit {
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 24 * 3_600_000,
        _ => return None,
    };
    let count = number(ago.strip_suffix(unit)?)?;
    count.checked_mul(unit_ms).map(FieldValue::Ago)
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = u64::from_str(text).ok().filter(|_| is_number)?;
    (number <= NUMBER_MAX).then_some(number)
}
