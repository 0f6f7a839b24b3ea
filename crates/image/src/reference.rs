//! Image references (`[host[:port]/]path[:tag][@digest]`) and digests.
