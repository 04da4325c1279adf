#pragma once
// Looks around a release for what it can be proven against.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/console.h"
#include "library/reference_reader.h"
#include "library/references.h"

namespace sluice::cli {

/// The folder's or file's own name, also for "." and "dir/".
[[nodiscard]] std::string own_name(const std::filesystem::path& path);
/// Where it lies.
[[nodiscard]] std::filesystem::path parent_of(const std::filesystem::path& path);

/// The entries of a list that lie below `prefix` ("name/"), without it.
[[nodiscard]] std::vector<format::ManifestFile> entries_below(const std::vector<format::ManifestFile>& files,
                                                              const std::string& prefix);

/// A file that is there. What is not there yet can still have a torrent or manifest beside its place, as a
/// folder.
[[nodiscard]] bool is_one_file(const std::filesystem::path& path);

class ReleaseFinder final {
 public:
  ReleaseFinder(const std::filesystem::path& path, StatementReader& statements, Console& console);

  /// Fills in expectations and found_in; the order is that of find_expectations.
  [[nodiscard]] FoundExpectations find();

 private:
  [[nodiscard]] std::vector<std::filesystem::path> beside_and_above(const std::string& file_name) const;
  void find_torrent();
  void find_manifest();
  void find_sums();
  [[nodiscard]] bool take_sums(const std::filesystem::path& list, const std::string& prefix, bool own);
  [[nodiscard]] bool is_other_release(const format::Manifest& manifest) const;
  void take_manifest(format::Manifest manifest, const std::filesystem::path& from);

  std::filesystem::path path_;
  bool is_folder_;
  std::string name_;
  std::filesystem::path parent_;
  StatementReader& statements_;
  Console& console_;
  FoundExpectations found_;
};

}  // namespace sluice::cli
