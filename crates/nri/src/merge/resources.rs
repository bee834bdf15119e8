//! Limits that several plugins give: each limit has one owner.

use crate::api::{Field, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, OwningPlugins};
use crate::error::Result;

/// Whose limits are merged.
pub(super) struct Merge<'a> {
    pub(super) owners: &'a mut OwningPlugins,
    pub(super) container: &'a str,
    pub(super) plugin: &'a str,
}

impl Merge<'_> {
    fn set<T: Clone>(&mut self, field: Field, said: &Option<T>, to: &mut Option<T>) -> Result<()> {
        if said.is_some() {
            self.owners.claim(self.container, field, self.plugin)?;
            to.clone_from(said);
        }
        Ok(())
    }

    fn set_text(&mut self, field: Field, said: &str, to: &mut String) -> Result<()> {
        if !said.is_empty() {
            self.owners.claim(self.container, field, self.plugin)?;
            said.clone_into(to);
        }
        Ok(())
    }

    /// Adds what a plugin says to what holds.
    ///
    /// # Errors
    /// Another plugin has said otherwise; part of it is added then.
    pub(super) fn resources(
        &mut self,
        said: &LinuxResources,
        to: &mut LinuxResources,
    ) -> Result<()> {
        if let Some(memory) = &said.memory {
            self.memory(memory, to.memory.get_or_insert_default())?;
        }
        if let Some(cpu) = &said.cpu {
            self.cpu(cpu, to.cpu.get_or_insert_default())?;
        }
        for limit in &said.hugepage_limits {
            let (size, field) = (&limit.page_size, Field::HugepageLimits);
            self.owners
                .claim_entry(self.container, field, size, self.plugin)?;
            to.hugepage_limits.retain(|other| other.page_size != *size);
            to.hugepage_limits.push(limit.clone());
        }
        for (file, value) in &said.unified {
            let field = Field::CgroupsUnified;
            self.owners
                .claim_entry(self.container, field, file, self.plugin)?;
            to.unified.insert(file.clone(), value.clone());
        }
        to.devices.extend(said.devices.iter().cloned());
        self.set(
            Field::BlockioClass,
            &said.blockio_class,
            &mut to.blockio_class,
        )?;
        self.set(Field::RdtClass, &said.rdt_class, &mut to.rdt_class)?;
        let pids: &Option<LinuxPids> = &said.pids;
        self.set(Field::PidsLimit, pids, &mut to.pids)
    }

    fn memory(&mut self, said: &LinuxMemory, to: &mut LinuxMemory) -> Result<()> {
        use Field as F;
        self.set(F::MemLimit, &said.limit, &mut to.limit)?;
        self.set(F::MemReservation, &said.reservation, &mut to.reservation)?;
        self.set(F::MemSwapLimit, &said.swap, &mut to.swap)?;
        self.set(F::MemKernelLimit, &said.kernel, &mut to.kernel)?;
        self.set(F::MemTcpLimit, &said.kernel_tcp, &mut to.kernel_tcp)?;
        self.set(F::MemSwappiness, &said.swappiness, &mut to.swappiness)?;
        let killer = &mut to.disable_oom_killer;
        self.set(F::MemDisableOomKiller, &said.disable_oom_killer, killer)?;
        self.set(
            F::MemUseHierarchy,
            &said.use_hierarchy,
            &mut to.use_hierarchy,
        )
    }

    fn cpu(&mut self, said: &LinuxCpu, to: &mut LinuxCpu) -> Result<()> {
        use Field as F;
        self.set(F::CpuShares, &said.shares, &mut to.shares)?;
        self.set(F::CpuQuota, &said.quota, &mut to.quota)?;
        self.set(F::CpuPeriod, &said.period, &mut to.period)?;
        let runtime = &mut to.realtime_runtime;
        self.set(F::CpuRealtimeRuntime, &said.realtime_runtime, runtime)?;
        let period = &mut to.realtime_period;
        self.set(F::CpuRealtimePeriod, &said.realtime_period, period)?;
        self.set_text(F::CpusetCpus, &said.cpus, &mut to.cpus)?;
        self.set_text(F::CpusetMems, &said.mems, &mut to.mems)
    }
}
