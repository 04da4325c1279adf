#pragma once
// Streams tensors from their source into a file: while a block of rows is encoded, the next one is read and
// the one before is hashed and written. Blocks of a file do not depend on the number of threads.

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

class ExportStream final {
 public:
  ExportStream(const std::filesystem::path& path, std::uint64_t memory_bytes, unsigned thread_count,
               base::Progress& progress, const std::stop_token& stop);

  void write(base::Bytes bytes);
  void write(const RowSource& source, ExportType type);
  void pad_to(std::uint64_t alignment_bytes);

  /// Gives the file its name. Nothing more can be written.
  [[nodiscard]] ExportedFile commit();

 private:
  struct Block {
    std::uint64_t first_row = 0;
    std::uint64_t rows = 0;
    std::vector<std::byte> stored;
    std::vector<std::byte> encoded;
  };

  void encode(const RowSource& source, ExportType type, Block& block, std::size_t part);

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
