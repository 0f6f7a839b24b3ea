//! Tests of the launch plan as a whole.
