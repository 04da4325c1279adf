// Three blocks of rows move through three stages: read, encode, write. One call of the pool runs all tasks of
// the three stages and returns when they are done, so blocks need no lock. Sizes are multiples of 64 rows,
// because tiles can only be decoded panel by panel; they depend on the memory, never on the number of
// threads. RowSource::read() and decode() run at the same time on different blocks.

#include "convert/export_stream.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "convert/value_encoder.h"

namespace sluice::convert {
namespace {

// Three blocks are in flight, each in its stored and its encoded form, and every thread has kPartRows rows of
// one as floats: a sixteenth of the memory for the floats of a block leaves room for all of them.
constexpr std::uint64_t kBlocksOfMemory = 16;
constexpr std::uint64_t kBlockFloatBytesMax = 16u << 20;
constexpr std::uint64_t kPartRows = 64;

}  // namespace

ExportStream::ExportStream(const std::filesystem::path& path, std::uint64_t memory_bytes,
                           unsigned thread_count, base::Progress& progress, const std::stop_token& stop)
    : output_(path),
      path_(path),
      memory_bytes_(memory_bytes),
      pool_(thread_count),
      progress_(progress),
      stop_(stop) {}

void ExportStream::require_room(std::uint64_t file_bytes) const {
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
  std::error_code error;  // a file system that does not tell is written to until it is full
  const auto space = std::filesystem::space(folder, error);
  if (error || space.available >= file_bytes) return;
  throw base::Error(base::ErrorKind::no_space,
                    path_.string() + ": the file will have " + base::to_human_bytes(file_bytes) + ", and " +
                        base::to_human_bytes(space.available) + " are free in " + folder.string());
}

void ExportStream::write(base::Bytes bytes) {
  output_.file().write_at(offset_bytes_, bytes);
  hasher_.update(bytes);
  offset_bytes_ += bytes.size();
}

void ExportStream::pad_to(std::uint64_t alignment_bytes) {
  write(std::vector<std::byte>(base::align_up(offset_bytes_, alignment_bytes) - offset_bytes_));
}

void ExportStream::write(const RowSource& source, ExportType type) {
  const std::uint64_t float_bytes = std::min(memory_bytes_ / kBlocksOfMemory, kBlockFloatBytesMax);
  const std::uint64_t rows = float_bytes / (source.cols() * sizeof(float));
  const std::uint64_t step = std::max(rows / kPartRows, std::uint64_t{1}) * kPartRows;

  // Three stages work on one block each at the same time: read, encode, write. Then the blocks move on.
  std::array<RowBlock, 3> blocks;
  RowBlock* reading = &blocks[0];
  RowBlock* encoding = &blocks[1];
  RowBlock* writing = &blocks[2];
  std::uint64_t next_row = 0;
  while (next_row < source.rows() || encoding->rows > 0 || writing->rows > 0) {
    if (stop_.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    reading->first_row = next_row;
    reading->rows = std::min(step, source.rows() - next_row);
    encoding->encoded.resize(encoded_bytes(type, encoding->rows * source.cols()));
    constexpr std::size_t kStages = 2;
    // One task for each of the two other stages, and one for every 64 rows that are encoded. Writing is a
    // task of its own because it hashes the whole file in one chain.
    pool_.run(kStages + base::divide_up(encoding->rows, kPartRows), [&](std::size_t task, unsigned) {
      if (task == 0) {
        if (writing->rows > 0) write(writing->encoded);
      } else if (task == 1) {
        if (reading->rows > 0) source.read(reading->first_row, reading->rows, reading->stored);
      } else {
        encode(source, type, *encoding, task - kStages);
      }
    });
    // After run() all three stages are done, so the blocks may change places.
    progress_.advance(encoding->rows * source.cols());
    next_row += reading->rows;
    writing->rows = 0;
    RowBlock* const written = writing;
    writing = std::exchange(encoding, std::exchange(reading, written));
  }
}

void ExportStream::encode(const RowSource& source, ExportType type, RowBlock& block, std::size_t part) {
  const std::uint64_t first = part * kPartRows;
  const std::uint64_t rows = std::min(kPartRows, block.rows - first);
  std::vector<float> values(static_cast<std::size_t>(rows * source.cols()));
  source.decode(block.stored, block.first_row, block.rows, block.first_row + first, values);
  const std::uint64_t row_bytes = encoded_bytes(type, source.cols());
  encode_values(type, values, base::MutableBytes(block.encoded).subspan(first * row_bytes, rows * row_bytes));
}

ExportedFile ExportStream::commit() {
  output_.commit();
  return {path_, offset_bytes_, hasher_.final()};
}

}  // namespace sluice::convert
