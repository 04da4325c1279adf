#pragma once
// SOURCE, MODEL and PATH of the command line: what the user calls a release or a model.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "library/catalog.h"
#include "library/context.h"

namespace sluice::library {

struct Source {
  enum class Kind : std::uint8_t { magnet, url, path, model, release };
  Kind kind = Kind::path;
  std::string text;                     ///< the link, cleaned (fetch::clean_link), the path or the name
  std::optional<CatalogEntry> release;  ///< for Kind::release
  std::filesystem::path model;          ///< for Kind::model, the .sluice file in the store
};

/// What is to be fetched: magnet link or URL, existing path, release name, in this order. Error{usage} with
/// the nearest known names when it is none.
[[nodiscard]] Source find_source(const std::string& text, const Folders& folders);

/// What is to be run: magnet link or URL, existing path, a name that `sluice models` lists (find_models() in
/// library/store_items.h), release name, in this order. `quant` is the type that is wanted; when it is empty,
/// a plain NAME means its `default_quant` model, or else the only one. The name of a known release means a
/// stored model only when that was made of something else; then the release would hide it. Error{usage} with
/// the names when several models are meant, and with the nearest known names when there is none.
[[nodiscard]] Source find_model_source(const std::string& text, const std::string& quant,
                                       const std::string& default_quant, const Folders& folders);

/// A file or folder for a command that reads what is there: an existing path; the folder of a known or
/// fetched release; a model of the store. Error{usage} for a release that was not fetched, and as above.
[[nodiscard]] std::filesystem::path find_local(const std::string& text, const Context& context);

/// What can be shared: a torrent, and the folder that holds its release.
struct SharedRelease {
  std::filesystem::path torrent;
  std::filesystem::path folder;  ///< empty for a .torrent: the release lies near it
};
/// A .torrent file; a release folder or file with its torrent near it; the name, info-hash or magnet link of
/// a release that was fetched. Error{usage} when no torrent is known.
[[nodiscard]] SharedRelease find_shared(const std::string& text, const Context& context);

/// "; did you mean ...?" with the nearest names of models and releases; empty when nothing is near.
[[nodiscard]] std::string suggest_names(const std::string& text, const Folders& folders);

}  // namespace sluice::library
