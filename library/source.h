#pragma once
// SOURCE and MODEL of the command line: what the user calls a release or a model.

#include <cstdint>
#include <optional>
#include <string>

#include "library/catalog.h"
#include "library/context.h"

namespace sluice::library {

struct Source {
  enum class Kind : std::uint8_t { magnet, url, path, release };
  Kind kind = Kind::path;
  std::string text;                     ///< the link, cleaned (fetch::clean_link), the path or the name
  std::optional<CatalogEntry> release;  ///< for Kind::release
};

/// Looks it up in this order: magnet link or URL, existing path (of a text file, the link in it), info-hash,
/// release name. Error{usage} when it is none.
[[nodiscard]] Source find_source(const std::string& text, const Folders& folders);

}  // namespace sluice::library
