#pragma once
// The source of an export's values: a released checkpoint in any layout, or a container. Both give each
// tensor of the model under its native name as blocks of rows, in two steps (read, decode), so that reading
// one block and decoding another can overlap.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "format/hub/chat_files.h"
#include "format/hub/sections.h"
#include "format/model_description.h"
#include "format/model_tensors.h"

namespace sluice::convert {

/// The rows of one tensor. Thread-safe. The model must outlive it.
class RowSource {
 public:
  virtual ~RowSource() = default;

  [[nodiscard]] virtual std::uint64_t rows() const = 0;
  [[nodiscard]] virtual std::uint64_t cols() const = 0;
  /// Blocks, and the ranges of rows in which they are decoded, begin at multiples of this many rows: 1 or 64.
  [[nodiscard]] virtual std::uint64_t row_step() const = 0;
  /// Reads rows [first, first + count) in their stored form.
  virtual void read(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& stored) const = 0;
  /// Decodes rows [first, first + out.size() / cols()) of the block that read(block_first, block_rows) gave.
  /// Error{malformed} for NaN and infinity.
  virtual void decode(base::Bytes stored, std::uint64_t block_first, std::uint64_t block_rows,
                      std::uint64_t first, std::span<float> out) const = 0;
};

/// A model that can be exported. Thread-safe.
class ModelRows {
 public:
  virtual ~ModelRows() = default;

  /// Opens a release folder, a checkpoint file or a container. Error{usage} when the path does not exist;
  /// Error{malformed} as the readers of either.
  [[nodiscard]] static std::unique_ptr<ModelRows> open(const std::filesystem::path& path);

  [[nodiscard]] virtual const format::ModelDescription& description() const = 0;
  [[nodiscard]] virtual std::uint64_t stored_bytes() const = 0;      ///< of the files that hold the model
  [[nodiscard]] virtual const std::string& params_text() const = 0;  ///< as released
  [[nodiscard]] virtual format::TokenizerParts tokenizer() const = 0;
  [[nodiscard]] virtual format::ChatFiles chat_files() const = 0;
  /// The name of the release that a container was made of, if it records one; else empty.
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual std::string licence() const = 0;

  /// The narrowest of bf16, f16 and f32 in which all values of the tensor are exact.
  [[nodiscard]] virtual format::DType exact_dtype(const format::ModelTensor& tensor) const = 0;
  /// Error{verification} for a container's tensor that does not match its digest.
  [[nodiscard]] virtual std::unique_ptr<RowSource> open_tensor(const format::ModelTensor& tensor) const = 0;
};

}  // namespace sluice::convert
