#pragma once
// Opens a container: maps it, checks header, footer and directory, and gives views of the payload.
// Opening reads no payload. Whether payload bytes match their digests is asked tensor by tensor.

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
#include "format/model_params.h"

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
  /// Of the file as it was when it was opened.
  [[nodiscard]] const base::FileIdentity& identity() const;
  [[nodiscard]] const ModelParams& params() const;
  [[nodiscard]] const std::vector<ContainerTensor>& tensors() const;    ///< in payload order
  [[nodiscard]] const std::vector<ContainerExpert>& experts() const;    ///< by layer, then expert
  [[nodiscard]] const std::vector<ContainerSection>& sections() const;  ///< in payload order
  [[nodiscard]] const Json& provenance() const;
  [[nodiscard]] const Json& recipe() const;
  [[nodiscard]] const ContainerFooter& footer() const;

  [[nodiscard]] const ContainerTensor* find(std::string_view name) const;
  [[nodiscard]] const ContainerSection* find_section(std::string_view name) const;

  /// The whole file, and parts of it.
  [[nodiscard]] base::Bytes bytes() const;
  [[nodiscard]] base::Bytes bytes(const ContainerTensor& tensor) const;
  [[nodiscard]] base::Bytes bytes(const ContainerSection& section) const;

  /// Error{io} naming the place when some mapped bytes could not be had since the file was opened. They read as
  /// zeros, so what was computed from views is only good when this has been asked afterwards.
  void require_whole() const;

  /// Reads the tensor's bytes and compares their digest.
  [[nodiscard]] bool proves(const ContainerTensor& tensor) const;
  [[nodiscard]] bool proves(const ContainerSection& section) const;

 private:
  friend class ContainerExaminer;
  struct Impl;
  explicit ContainerReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// True when the file starts with the container's magic, or ends with its end marker.
[[nodiscard]] bool is_container(const std::filesystem::path& path);

}  // namespace sluice::format
