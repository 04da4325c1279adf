#pragma once
// Looks for references around a release: beside it, above it, in it and in the catalog.

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "library/reference_reader.h"
#include "library/references.h"

namespace sluice::library {

/// The entries whose paths begin with `prefix` ("name/"), with the prefix removed.
[[nodiscard]] std::vector<format::ManifestFile> entries_below(const std::vector<format::ManifestFile>& files,
                                                              const std::string& prefix);

/// Why a list without an entry that can be compared is no reference; a predicate.
[[nodiscard]] std::string explain_empty_list(const format::ChecksumList& list);

class ReferenceFinder final {
 public:
  ReferenceFinder(const std::filesystem::path& path, ReferenceReader& reader, const Context& context);

  /// Fills in expected, torrent and found_in; looks in the order that find_references documents.
  [[nodiscard]] References find();

 private:
  [[nodiscard]] std::vector<std::filesystem::path> beside_and_above(const std::string& file_name) const;
  void find_torrent();
  void choose_torrent(const std::vector<std::filesystem::path>& candidates);
  [[nodiscard]] std::optional<format::ReleaseLayout> read_torrent(const std::filesystem::path& file);
  [[nodiscard]] std::size_t count_fitting_files(const format::ReleaseLayout& layout) const;
  void find_manifest();
  [[nodiscard]] std::optional<format::Manifest> read_manifest(const std::filesystem::path& file);
  void find_sums();
  /// Lists in `folder` whose names `chosen` accepts, in a fixed order.
  [[nodiscard]] static std::vector<std::filesystem::path> lists_in(
      const std::filesystem::path& folder, const std::function<bool(const std::string&)>& chosen);
  [[nodiscard]] bool take_sums(const std::vector<std::filesystem::path>& lists, const std::string& prefix,
                               bool own);
  void take_list(const std::filesystem::path& file, const std::string& prefix, bool own,
                 std::set<std::string>& known, format::Manifest& manifest);
  [[nodiscard]] std::vector<format::ManifestFile> entries_of(const std::filesystem::path& file,
                                                             const format::ChecksumList& list,
                                                             const std::string& prefix, bool own) const;
  void note_not_compared(const std::filesystem::path& file, const format::ChecksumList& list,
                         const std::string& prefix, bool own);
  void skip(const std::string& problem);
  [[nodiscard]] bool is_other_release(const format::Manifest& manifest) const;
  void take_manifest(format::Manifest manifest, const std::vector<std::string>& from);

  std::filesystem::path path_;
  bool is_folder_;
  std::string name_;
  std::filesystem::path parent_;
  ReferenceReader& reader_;
  const Context& context_;
  References found_;
};

}  // namespace sluice::library
