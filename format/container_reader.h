#pragma once
// Opens a container: maps it, checks header, footer and directory, and gives views of the payload. Opening
// reads no payload; matches_digest() verifies it tensor by tensor.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/container_format.h"
#include "format/json.h"
#include "format/model_description.h"

namespace sluice::format {

/// Thread-safe after construction; views live as long as the reader.
class ContainerReader final {
 public:
  /// Error{malformed} "FILE: ..." for a file that is cut, damaged in header, footer or directory, of another
  /// version, or whose directory contradicts itself.
  [[nodiscard]] static ContainerReader open(const std::filesystem::path& path);
  ~ContainerReader();
  ContainerReader(ContainerReader&&) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const;
  /// The identity of the file when it was opened.
  [[nodiscard]] const base::FileIdentity& identity() const;
  [[nodiscard]] const ModelDescription& description() const;
  [[nodiscard]] const std::vector<ContainerTensor>& tensors() const;    ///< in payload order
  [[nodiscard]] const std::vector<ContainerExpert>& experts() const;    ///< by layer, then expert
  [[nodiscard]] const std::vector<ContainerSection>& sections() const;  ///< in payload order
  [[nodiscard]] const Json& provenance() const;
  [[nodiscard]] const Json& recipe() const;
  [[nodiscard]] const ContainerFooter& footer() const;
  /// `root_sha256`, over everything that decides what is computed. It is computed from the file's content, so
  /// containers of version 1, whose footer has tensors_sha256() in its place, have it as well.
  [[nodiscard]] const base::Sha256& root() const;
  /// Over the weights alone, to compare them.
  [[nodiscard]] const base::Sha256& tensors_sha256() const;
  /// What root() covers.
  [[nodiscard]] std::vector<RootPart> root_parts() const;

  [[nodiscard]] const ContainerTensor* find(std::string_view name) const;
  [[nodiscard]] const ContainerSection* find_section(std::string_view name) const;

  /// Views of the whole file, and of parts of it.
  [[nodiscard]] base::Bytes bytes() const;
  [[nodiscard]] base::Bytes bytes(const ContainerTensor& tensor) const;
  [[nodiscard]] base::Bytes bytes(const ContainerSection& section) const;

  /// Error{io} naming the place when mapped bytes could not be read since the file was opened: the file was
  /// cut, or its disk failed. Such bytes read as zeros, so results computed from views are valid only if this
  /// is called afterwards and does not throw.
  void require_whole() const;

  /// Reads the bytes and compares them with their digest.
  [[nodiscard]] bool matches_digest(const ContainerTensor& tensor) const;
  [[nodiscard]] bool matches_digest(const ContainerSection& section) const;

 private:
  friend class ContainerChecker;
  struct Impl;
  [[nodiscard]] static ContainerReader open(base::MappedFile& file);
  explicit ContainerReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// True when the file starts with the container's magic, or ends with its end marker.
[[nodiscard]] bool is_container(const std::filesystem::path& path);

}  // namespace sluice::format
