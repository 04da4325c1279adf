#pragma once
// The front door of `format`: what bytes mean. It reads and writes formats and executes nothing.
//
//   json.h              JSON values                       tensor.h            element types and shapes
//   model_description.h  what a model computes            model_tensors.h     which tensors a model has
//   mistral_params.h    params.json, config.json
//   release_layout.h    what a .torrent promises          manifest.h          what is known of a release
//   leaf_file.h         hashes of all 16 KiB blocks
//   checkpoint_index.h  where a checkpoint's tensors lie  tile.h              matrices in tiles
//   checkpoint_kind.h   the kinds of checkpoint files, and how they are recognised
//   checkpoint_map.h    what each byte of a checkpoint is
//   released_model.h    where the model's tensors lie, in any layout   tensor_source.h   reads them
//   checkpoint_scan.h, pickle_scan.h   what a pickle would execute
//   tensor_digests.h    digests of a checkpoint's tensors
//   container_format.h, container_reader.h, container_writer.h   the .sluice file
//   container_check.h   the same when it is damaged
//   container_proofs.h        which parts of it have been proven

#include "format/checkpoint_index.h"   // IWYU pragma: export
#include "format/checkpoint_kind.h"    // IWYU pragma: export
#include "format/checkpoint_map.h"     // IWYU pragma: export
#include "format/checkpoint_scan.h"    // IWYU pragma: export
#include "format/container_check.h"    // IWYU pragma: export
#include "format/container_format.h"   // IWYU pragma: export
#include "format/container_proofs.h"   // IWYU pragma: export
#include "format/container_reader.h"   // IWYU pragma: export
#include "format/container_writer.h"   // IWYU pragma: export
#include "format/json.h"               // IWYU pragma: export
#include "format/leaf_file.h"          // IWYU pragma: export
#include "format/manifest.h"           // IWYU pragma: export
#include "format/mistral_params.h"     // IWYU pragma: export
#include "format/model_description.h"  // IWYU pragma: export
#include "format/model_tensors.h"      // IWYU pragma: export
#include "format/release_layout.h"     // IWYU pragma: export
#include "format/released_model.h"     // IWYU pragma: export
#include "format/tensor.h"             // IWYU pragma: export
#include "format/tensor_digests.h"     // IWYU pragma: export
#include "format/tensor_source.h"      // IWYU pragma: export
#include "format/tile.h"               // IWYU pragma: export
