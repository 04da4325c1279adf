#pragma once
// Names in torrents of old or careless makers: elements in a local encoding where BEP 3 asks for UTF-8, and
// backslashes. They are converted to clean names with a warning. Names that could do harm ("..", a slash, a
// control character) are not converted: format::check_release_path refuses them afterwards.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::fetch {

class NameCleaner final {
 public:
  /// `encoding` is the torrent's key of that name, such as "GBK"; empty where it has none, as in metadata
  /// from peers. A name that is not UTF-8 is then read as Windows-1252, which contains the letters of Latin-1
  /// and gives different names to different bytes.
  explicit NameCleaner(std::string_view encoding);

  /// One element of a path as UTF-8 without backslashes. Bytes that the encoding lacks become '_'.
  [[nodiscard]] std::string clean(std::string_view element);

  /// One sentence for each kind of change, with the number of names and the first of them.
  [[nodiscard]] std::vector<std::string> warnings() const;
  /// The torrent's encoding where a name depended on it: a copy of the torrent must keep it. Otherwise empty.
  [[nodiscard]] std::string encoding_to_keep() const;

 private:
  struct Change {
    std::uint64_t count = 0;
    std::string first;  ///< the first clean name
  };
  static void note(Change& change, const std::string& name);

  std::string encoding_;
  Change decoded_;
  Change backslash_;
};

}  // namespace sluice::fetch
