#pragma once
// The folder into which a fetch writes: DIR, DIR/.sluice for our own files, and a lock per torrent.

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "fetch/fetch.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// The file in a cache folder that keeps the DHT's nodes from one run to the next; empty when `cache_folder`
/// is.
[[nodiscard]] std::filesystem::path dht_state_path(const std::filesystem::path& cache_folder);

class OutputFolder final {
 public:
  /// Creates DIR and DIR/.sluice and locks `key` (torrent_key). Error{usage} when another process fetches the
  /// same torrent into the same folder.
  OutputFolder(std::filesystem::path folder, const std::string& key);

  [[nodiscard]] const std::filesystem::path& path() const { return folder_; }
  [[nodiscard]] std::filesystem::path torrent_path() const { return own_file(".torrent"); }
  [[nodiscard]] std::filesystem::path journal_path() const { return own_file(".journal"); }
  /// Holds the parts of pieces that lie in unwanted files; each file is named by its index.
  [[nodiscard]] std::filesystem::path parts_path() const { return own_file(".parts"); }
  /// Holds the pieces fetched for a repair of the release.
  [[nodiscard]] std::filesystem::path repair_path() const { return own_file(".repair"); }
  /// Keeps files of which a repair found nothing to be right.
  [[nodiscard]] std::filesystem::path replaced_path() const { return own_file(".replaced"); }
  [[nodiscard]] std::filesystem::path info_path() const {
    return own_file(".info");
  }  ///< written by the worker
  [[nodiscard]] std::filesystem::path layers_path() const {
    return own_file(".layers");
  }  ///< written by the worker
  [[nodiscard]] int lock_descriptor() const { return lock_.descriptor(); }

  [[nodiscard]] std::filesystem::path release_path(const format::ReleaseLayout& layout) const {
    return folder_ / layout.name;
  }

  /// Error{usage} when two files of the release would be one file because the file system ignores case.
  void check_case(const format::ReleaseLayout& layout) const;
  /// Removes the journal if another user owns it or could have written it: its records prove nothing then.
  /// Returns whether it did.
  [[nodiscard]] bool discard_foreign_journal() const;
  /// Creates an empty journal that nobody else can write, unless there is one.
  void create_journal() const;

  /// Error{io} when a path to a file contains a symbolic link, or a file in place of a folder.
  void check_paths(const format::ReleaseLayout& layout) const;

  /// Examines the disk before the first byte is fetched. Error{io} when the file system cannot hold a wanted
  /// file.
  [[nodiscard]] Preflight preflight(const format::ReleaseLayout& layout,
                                    const std::vector<bool>& wanted) const;
  /// Error{no_space} when the missing bytes of the wanted files do not fit.
  void check_space(const Preflight& report) const;

 private:
  [[nodiscard]] std::filesystem::path own_file(const char* suffix) const {
    return folder_ / ".sluice" / (key_ + suffix);
  }

  std::filesystem::path folder_;
  std::string key_;
  base::File lock_;
};

}  // namespace sluice::fetch
