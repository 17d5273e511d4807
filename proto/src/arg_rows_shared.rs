//! x
use crate::arg_table::Row;
pub(crate) const ROWS: &[Row] = &[];
