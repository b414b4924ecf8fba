//! Rows as text: CSV, JSON and tables, as the commands `penholder` and `penholder-cluster` print them. A crate of
//! its own because those two are in different workspaces. It makes no promise of stability.

pub mod base64;
pub mod blob_literal;
pub mod csv_line;
pub mod json_object;
pub mod real_literal;
pub mod table_printer;
pub mod terminal_text;
pub mod value_text;
