from prefrec_ray.algorithms import BCQ as BCQ
from prefrec_ray.algorithms import DDPG as DDPG
from prefrec_ray.algorithms import IL as IL
from prefrec_ray.algorithms import IQL as IQL
from prefrec_ray.algorithms import SAC as SAC
from prefrec_ray.algorithms import TD3 as TD3
from prefrec_ray.algorithms import TD3_BC as TD3_BC
from prefrec_ray.algorithms import PrefRec as PrefRec
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.dataset import PreparedDataset as PreparedDataset
from prefrec_ray.errors import UserError as UserError
from prefrec_ray.policy import Policy as Policy

__version__: str
BCQConfig: type[OfflineConfig]
DDPGConfig: type[OfflineConfig]
ILConfig: type[OfflineConfig]
IQLConfig: type[OfflineConfig]
PrefRecConfig: type[OfflineConfig]
SACConfig: type[OfflineConfig]
TD3BCConfig: type[OfflineConfig]
TD3Config: type[OfflineConfig]
