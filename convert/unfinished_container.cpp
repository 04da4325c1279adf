// Part file, journal and writer of a conversion (protocol in unfinished_container.h). The pipeline calls
// write() and finish_write() on its writer thread, the other functions one at a time on any worker; the
// counters of unsynced bytes belong to the writer thread, and the flag that the journal is due is handed over
// by the pipeline's own locking.

#include "convert/unfinished_container.h"

#include <string>
#include <utility>

#include "base/error.h"
#include "format/hub/sections.h"

namespace sluice::convert {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::uint64_t kSyncBytes = 1u << 30;  // what a power loss costs at most

void begin(format::ContainerWriter& writer, const TensorJob& job) {
  const PlannedTensor& tensor = *job.tensor;
  writer.begin_tensor(tensor.target, tensor.storage, tensor.source->dtype, job.expert_bytes);
}

std::uint64_t stored_bytes(std::span<const TensorJob> jobs) {
  std::uint64_t bytes = 0;
  for (const TensorJob& job : jobs)
    bytes += format::storage_bytes(job.tensor->storage, job.tensor->target.shape);
  return bytes;
}

}  // namespace

// The same input gives the same result, so errors of content would only come again; these three can go away.
bool is_resumable(ErrorKind kind) {
  return kind == ErrorKind::interrupted || kind == ErrorKind::no_space || kind == ErrorKind::io;
}

UnfinishedContainer::UnfinishedContainer(const std::filesystem::path& output,
                                         const ConversionIdentity& identity, base::Progress& progress)
    : part_(output), journal_(part_.journal(), identity), tensors_(identity.tensors) {
  if (!journal_.refusal().empty())
    progress.warn(part_.file().path().string() + ": " + journal_.refusal() + "; the conversion starts over");
  if (finished().empty()) part_.file().resize(0);
}

void UnfinishedContainer::resume(const Plan& plan, std::span<const TensorJob> jobs, base::Progress& progress,
                                 const std::stop_token& stop) {
  // A wrong tensor is noticed when those before it are in the file's hash already, which then starts over.
  // That is rare enough to hash them twice.
  while (!adopt_finished(plan, jobs, progress, stop)) {
  }
}

bool UnfinishedContainer::adopt_finished(const Plan& plan, std::span<const TensorJob> jobs,
                                         base::Progress& progress, const std::stop_token& stop) {
  writer_.emplace(part_.file(), plan.release.description);
  for (const auto& section : format::released_sections(plan.release))
    writer_->add_section(section.name, base::as_bytes(section.content));
  if (finished().empty()) return true;
  progress.begin("checking", stored_bytes(jobs.first(finished().size())));
  for (std::size_t i = 0; i < finished().size(); ++i) {
    if (stop.stop_requested()) throw Error(ErrorKind::interrupted, "interrupted");
    begin(*writer_, jobs[i]);
    if (!writer_->adopt_tensor(finished()[i].digest, finished()[i].source_digest)) {
      progress.warn(part_.file().path().string() + ": tensor '" + jobs[i].tensor->target.name +
                    "' is not what was written; the conversion goes on from it");
      journal_.keep(i);
      return false;
    }
    progress.advance(stored_bytes(jobs.subspan(i, 1)));
  }
  return true;
}

void UnfinishedContainer::begin_tensor(const format::ModelTensor& tensor, format::Storage storage,
                                       format::DType source_dtype, std::uint64_t expert_bytes) {
  tensor_ = &tensor;
  writer_->begin_tensor(tensor, storage, source_dtype, expert_bytes);
}

void UnfinishedContainer::write(base::Bytes bytes) {
  writer_->write(bytes);
  unsynced_bytes_ += bytes.size();
}

// Runs on the writer thread, while the workers are busy with the next tensors.
void UnfinishedContainer::finish_write() {
  writer_->finish_write();
  if (unsynced_bytes_ < kSyncBytes) return;
  // The data first, then the journal (end_tensor): in the other order a power loss would leave records
  // without their bytes. The next run would notice that, but would have to convert these tensors again.
  part_.file().sync();
  unsynced_bytes_ = 0;
  journal_is_due_ = true;
}

void UnfinishedContainer::end_tensor(const base::Sha256& source_digest, const QuantError& error) {
  // finish_write() has synced the tensor's data if the journal is due.
  const base::Sha256 digest = writer_->end_tensor(source_digest);
  journal_.append({digest, source_digest, error, feed_ != nullptr ? feed_->tokens(*tensor_) : 0});
  if (std::exchange(journal_is_due_, false)) journal_.sync();
}

format::WrittenContainer UnfinishedContainer::finish(format::Json provenance, format::Json recipe) {
  writer_->set_provenance(std::move(provenance));
  writer_->set_recipe(std::move(recipe));
  const auto written = writer_->finish();
  part_.commit();
  return written;
}

void UnfinishedContainer::leave(const Error& error) {
  if (!is_resumable(error.kind()) || finished().empty()) {
    part_.discard();
    throw error;
  }
  const std::string cause = error.kind() == ErrorKind::interrupted ? "interrupted" : error.what();
  throw Error(error.kind(), cause + "; " + std::to_string(finished().size()) + " of " +
                                std::to_string(tensors_) + " tensors are finished in " +
                                part_.file().path().string() + ", and the same command goes on from there");
}

}  // namespace sluice::convert
