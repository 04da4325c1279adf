#pragma once
// From what the user calls a model to a .sluice file: a path, a release name, a magnet link or URL. What is
// missing is done here (fetch, verify, convert), and the results are kept in the model store.

#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/network_options.h"
#include "convert/convert.h"
#include "fetch/fetch.h"
#include "library/catalog.h"

namespace sluice::cli {

/// SOURCE and MODEL in the order of lookup: magnet link or URL, existing path, release name.
struct Source {
  enum class Kind { magnet, url, path, release };
  Kind kind = Kind::path;
  std::string text;                     ///< as given
  std::optional<CatalogEntry> release;  ///< for Kind::release
};

/// Error{usage} when it is none of them.
[[nodiscard]] Source find_source(const std::string& text);

[[nodiscard]] convert::Quant parse_quant(const std::string& text);

struct ModelRequest {
  std::string model;  ///< what the user calls it
  std::string quant = "q4";
  unsigned thread_count = 1;
  NetworkOptions network;  ///< for releases that are to be fetched
};

/// The .sluice file of that model, made now or earlier. Error{verification} for a release that is not as
/// released.
[[nodiscard]] std::filesystem::path prepare_model(const ModelRequest& request, Console& console,
                                                  const std::stop_token& stop);

/// This program, called as fetch's helper process.
[[nodiscard]] std::vector<std::string> worker_command();

}  // namespace sluice::cli
