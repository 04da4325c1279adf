#pragma once
// Looks for references around a release: beside it, above it, in it and in the catalog.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "library/reference_reader.h"
#include "library/references.h"

namespace sluice::library {

/// The entries whose paths begin with `prefix` ("name/"), with the prefix removed.
[[nodiscard]] std::vector<format::ManifestFile> entries_below(const std::vector<format::ManifestFile>& files,
                                                              const std::string& prefix);

class ReferenceFinder final {
 public:
  ReferenceFinder(const std::filesystem::path& path, ReferenceReader& reader, const Context& context);

  /// Fills in expected, torrent and found_in; looks in the order that find_references documents.
  [[nodiscard]] References find();

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
  ReferenceReader& reader_;
  const Context& context_;
  References found_;
};

}  // namespace sluice::library
