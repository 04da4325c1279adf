#pragma once
// From what the user calls a model to a .sluice file. Missing steps (fetch, verify, convert) are done here,
// and their results are kept in the model store.

#include <filesystem>
#include <string>

#include "fetch/fetch.h"
#include "library/context.h"

namespace sluice::library {

struct ModelRequest {
  std::string model;                 ///< as find_model_source takes it
  std::string quant;                 ///< empty: default_quant, or that of a model that is converted already
  std::string default_quant = "q4";  ///< for what has to be converted
  unsigned thread_count = 1;
  /// Peers, limits, cache folder and worker command for a release that has to be fetched; source and output
  /// folder are set here.
  fetch::FetchRequest network;
};

/// The .sluice file of that model, made now or earlier. Error{verification} for a release that differs from
/// its references; Error{usage} when another `quant` is asked for than a stored model has; otherwise as
/// find_model_source, fetch::fetch and convert::convert.
[[nodiscard]] std::filesystem::path prepare_model(const ModelRequest& request, const Context& context);

}  // namespace sluice::library
