#pragma once
// The library: from what the user names to a release that was verified and a model that was converted.
//
//   find_source, list_releases      what a name, path, link or URL means; the known releases
//   fetch_release                   which torrent is meant and who vouches for it, then the download
//   find_references                 the files that say what a release should be
//   verify_path                     release or container: verify, repair, check the chain between them
//   record_origin                   verify a release and record it as the origin of a conversion
//   prepare_model                   all of this, as far as it is missing, to a .sluice file in the store
//   Store                           what was fetched and converted
//   list_trusted_keys, ..           whose signatures the user believes
//
// The room never prints, reads no environment variables and asks nobody by itself: it takes Folders and an
// Observer from its caller (library/context.h, library/observer.h). Its functions may be called by several
// threads, each with an observer of its own; the store is shared by processes through its locks.

#include "library/catalog.h"
#include "library/container_chain.h"
#include "library/context.h"
#include "library/fetch_release.h"
#include "library/observer.h"
#include "library/origin.h"
#include "library/prepare_model.h"
#include "library/references.h"
#include "library/release_path.h"
#include "library/signature_report.h"
#include "library/source.h"
#include "library/store.h"
#include "library/store_items.h"
#include "library/trusted_keys.h"
#include "library/verification.h"
