#pragma once
// The two long lists of a container's directory, tensors and experts, read without a tree of JSON values: a
// model of 15,000 experts has 45,000 tensors, whose values would take 300,000 allocations. Private to format.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/container_format.h"

namespace sluice::format {

/// A directory's text, split around its two lists.
struct DirectoryEntries {
  std::string before;  ///< the object without the lists and without what follows them
  std::string after;   ///< an object of the members that follow the lists
  std::vector<ContainerTensor> tensors;
  std::vector<ContainerExpert> experts;
};

/// Splits a text in which both lists stand as to_text() writes them, next to each other, and reads them.
/// Nothing for any other text: whoever calls this has a slower way for it, and that way's errors. `before`
/// and `after` are not looked at; only where both are JSON objects were the lists members of the outermost
/// one.
[[nodiscard]] std::optional<DirectoryEntries> split_directory(std::string_view text);

}  // namespace sluice::format
