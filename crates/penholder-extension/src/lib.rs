//! `libpenholder`: a loadable extension for SQLite, and a C interface to penholder's write lock.
//!
//! | module, from the top | what it does |
//! | --- | --- |
//! | `entry` | the entry points that SQLite calls when it loads the library |
//! | `functions` | the SQL functions |
//! | `interface`, `failure` | the C interface |
//! | `routines` | SQLite's table of functions, as an extension gets it |

mod entry;
mod failure;
mod functions;
mod interface;
mod routines;
