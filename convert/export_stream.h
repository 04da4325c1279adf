#pragma once
// Streams tensors from their source into a file: while a block of rows is encoded, the next one is read and
// the previous one is hashed and written. The size of blocks, and so the file, does not depend on the number
// of threads.

#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <string_view>

#include "base/file.h"
#include "base/hasher.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "convert/export.h"
#include "convert/model_rows.h"

namespace sluice::convert {

/// Used by one thread, which runs the stages of a block on a pool of its own.
class ExportStream final {
 public:
  ExportStream(const std::filesystem::path& path, std::uint64_t memory_bytes, unsigned thread_count,
               base::Progress& progress, const std::stop_token& stop);

  /// Error{no_space} when the disk of the output has fewer free bytes than the file will have.
  void require_room(std::uint64_t file_bytes) const;
  void write(base::Bytes bytes);
  /// Writes all rows of a tensor in the given type.
  void write(const RowSource& source, ExportType type);
  /// Writes zeros up to a multiple of `alignment_bytes`.
  void pad_to(std::uint64_t alignment_bytes);

  /// Makes the file durable and gives it its name. Nothing can be written afterwards.
  [[nodiscard]] ExportedFile commit();

 private:
  struct RowBlock {
    std::uint64_t first_row = 0;
    std::uint64_t rows = 0;          ///< 0: the stage has nothing to do
    std::vector<std::byte> stored;   ///< as the source has them
    std::vector<std::byte> encoded;  ///< as the file has them
  };

  void encode(const RowSource& source, ExportType type, RowBlock& block, std::size_t part);

  base::AtomicFile output_;
  std::filesystem::path path_;
  base::Hasher<base::Sha256> hasher_;
  std::uint64_t offset_bytes_ = 0;
  std::uint64_t memory_bytes_;
  base::WorkerPool pool_;
  base::Progress& progress_;
  const std::stop_token& stop_;
};

}  // namespace sluice::convert
