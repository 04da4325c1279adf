#pragma once
// Makes a container out of another one with something changed, consistent with itself again: as a forger
// would, or as an earlier version of the program wrote it.

#include <filesystem>
#include <vector>

#include "base/file.h"
#include "base/hasher.h"
#include "format/container_directory.h"
#include "format/container_reader.h"

namespace sluice::tests {

/// `change(directory, payload)` changes the directory and the bytes in front of it. Header, digests in the
/// footer and the length follow; digests in the directory do not.
template <typename F>
void forge_container(const std::filesystem::path& container, const std::filesystem::path& forged, F change) {
  const auto reader = format::ContainerReader::open(container);
  format::ContainerFooter footer = reader.footer();
  const auto at = static_cast<std::size_t>(footer.directory_offset_bytes);
  auto directory = format::parse_directory(
      base::as_text(reader.bytes().subspan(at, static_cast<std::size_t>(footer.directory_length_bytes))),
      "directory");
  const auto bytes = reader.bytes().first(at);
  std::vector<std::byte> payload(bytes.begin(), bytes.end());
  change(directory, payload);
  const std::string text = format::to_text(directory);
  footer.version = directory.version;
  footer.root = format::stored_root(format::digests_of(directory), directory.version);
  footer.directory_length_bytes = text.size();
  footer.directory_sha256 = base::hash<base::Sha256>(base::as_bytes(text));
  footer.file_bytes = at + text.size() + format::kContainerFooterBytes;
  auto file = base::File::create(forged);
  file.write_at(0, payload);
  file.write_at(0, format::encode_header(footer.version));
  file.write_at(at, base::as_bytes(text));
  file.write_at(at + text.size(), format::encode_footer(footer));
}

/// As programs wrote it before container version 2.
inline void write_as_version_1(const std::filesystem::path& container, const std::filesystem::path& older) {
  forge_container(container, older,
                  [](format::ContainerDirectory& directory, auto&) { directory.version = 1; });
}

/// Changes one byte of a section.
inline void forge_section(const std::filesystem::path& container, const std::filesystem::path& forged,
                          std::string_view name, std::size_t at) {
  forge_container(container, forged,
                  [&](format::ContainerDirectory& directory, std::vector<std::byte>& payload) {
                    for (format::ContainerSection& section : directory.sections) {
                      if (section.name != name) continue;
                      payload.at(section.offset_bytes + at) ^= std::byte{1};
                      section.sha256 = base::hash<base::Sha256>(
                          base::Bytes(payload).subspan(static_cast<std::size_t>(section.offset_bytes),
                                                       static_cast<std::size_t>(section.length_bytes)));
                    }
                  });
}

}  // namespace sluice::tests
